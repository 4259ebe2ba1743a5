"""Verify in litestream mode, with the real litestream."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.owners import FakeLease, previous
from fakes.streams import Streamer, Streamers
from flyatc.admin import store_access
from flyatc.config import load
from flyatc.databases.verify import Verdict
from flyatc.observe.log import Log
from flyatc.process.child_records import Records


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Streamers]:
    made = Streamers.on_folder(tmp_path)
    yield made
    await made.close()


async def drill(machines: Streamers, machine: Streamer) -> list[Verdict]:
    file = machines.root / "tenants.yaml"
    file.write_text(
        "app: {command: [x], databases: [app.sqlite3]}\n"
        "storage: {mode: litestream, url: 'file:./store'}\n"
        "server: {data: ./drills}\n"
        "users: {bellevue: {tenants: [2025/winter]}}\n"
    )
    config = load.load(file, {})
    log = Log(io.BytesIO())
    try:
        found = await store_access.take_inventory(machine.store, "bellevue/2025/winter")
        async with store_access.open_verifier(
            config, machines.environ, machine.store, Records(machines.root / "drills"), log
        ) as made:
            return [verdict for one in found.databases for verdict in await made.verify(machine.tenant, one)]
    finally:
        log.close()


async def test_a_replica_is_restored_and_a_damaged_one_is_reported(machines: Streamers) -> None:
    a = await machines.machine("a")
    await a.session(FakeLease(1, previous(0, clean=True)), 1, 2, 3)
    [found, snapshot] = await drill(machines, a)
    assert snapshot.version == "000001-000000001"
    assert (found.tenant, found.database, found.state) == ("bellevue/2025/winter", "app.sqlite3", "ok")
    assert found.version is not None
    assert found.version.startswith("e000001:")
    assert found.size >= 8192
    for file in (machines.root / "store").rglob("*.ltx"):
        file.write_bytes(file.read_bytes()[:-200])
    [found, snapshot] = await drill(machines, a)
    assert snapshot.state == "ok"
    assert found.state == "damaged"
    assert "litestream says: " in found.why
    assert list((machines.root / "drills" / ".flyatc" / "drills").iterdir()) == []
