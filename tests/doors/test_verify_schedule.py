"""storage.verify: test restores in the background, and their remembered results."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from fakes.machines import Reported, Yard
from fakes.waiting import eventually
from flyatc.config import load
from flyatc.config.schema import Config
from flyatc.daemon import verify_schedule as module
from flyatc.daemon.verify_schedule import VerifySchedule
from flyatc.kit import tasks
from flyatc.process.child_records import Records


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


def configured(root: Path, verify: str) -> Config:
    file = root / "tenants.yaml"
    file.write_text(
        f"app: {{command: [x]}}\nserver: {{data: ./data}}\nstorage: {{verify: {verify}}}\nusers: {{ann: }}\n"
    )
    return load.load(file, {})


@contextlib.asynccontextmanager
async def verifying(yard: Yard, log: Reported, verify: str) -> AsyncIterator[VerifySchedule]:
    config = configured(yard.root, verify)
    made = VerifySchedule(config, {}, yard.failing, Records(yard.root / "data"), log)
    running = tasks.start(made.run(), "verify")
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


async def test_a_store_that_is_away_is_reported_and_results_outlive_the_daemon(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    await yard.store.put("users/ann/~/new.db/current.json", b'{"owner": 1}')  # owned, and nothing was saved yet
    yard.failing.fail(times=1)
    async with verifying(yard, a.log, "1s") as one:
        await eventually(lambda: a.events("the store's databases cannot be verified now"))
        await eventually(lambda: one.summary().last)
        reported = one.summary()
    assert (reported.databases, reported.bad) == (1, [])
    [event] = a.events("verified")[:1]
    assert (event["tenant"], event["database"], event["version"]) == (
        "bellevue/2025/winter",
        a.path.name,
        "000001-000000001",
    )
    async with verifying(yard, a.log, "24h") as later:
        await eventually(lambda: later.summary().last)
        assert structs.replace(later.summary(), last=None, first=None) == structs.replace(
            reported, last=None, first=None
        )
    (yard.root / "data" / ".flyatc" / "verified.json").write_bytes(b"{")
    async with verifying(yard, a.log, "1s") as anew:
        await eventually(lambda: anew.summary().last)


async def test_without_an_interval_only_what_runs_for_long_is_verified_and_healed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 2.0)
    asleep, awake = yard.machine("asleep"), yard.machine("awake", key=None)
    await asleep.session(1)
    async with awake.service.hold(awake.tenant):
        config = configured(yard.root, "null")
        made = VerifySchedule(config, {}, yard.failing, Records(yard.root / "data"), awake.log, awake.service.held)
        running = tasks.start(made.run(), "verify")
        try:
            await eventually(lambda: awake.events("verified"))
            [snapshot] = yard.snapshots()
            snapshot.write_bytes(snapshot.read_bytes()[:-10])
            await eventually(lambda: awake.events("the store has a new copy, made of the local file"))
            reported = made.summary()
            assert (reported.damaged, reported.healed, reported.bad) == (1, 1, [])
            assert len(yard.snapshots()) == 2, "a new one, and nothing removed"
        finally:
            running.cancel()
            await asyncio.wait([running])
    assert awake.events("what the store has cannot be restored")[0]["level"] == "error"
    await yard.machine("elsewhere").session()


async def test_without_an_interval_nothing_that_sleeps_is_read(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.5)
    a = yard.machine("a")
    await a.session(1)
    made = VerifySchedule(
        configured(yard.root, "null"),
        {},
        yard.failing,
        Records(yard.root / "data"),
        a.log,
        yard.machine("b").service.held,
    )
    yard.failing.calls.clear()
    running = tasks.start(made.run(), "verify")
    await asyncio.sleep(1.5)
    running.cancel()
    await asyncio.wait([running])
    assert yard.failing.calls == []
