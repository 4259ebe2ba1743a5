"""Choices of a restore by operators, and what monitoring reports of test restores."""

import asyncio
import io
from pathlib import Path

import pytest
from msgspec import structs

from fakes.operations import STARTED, Desk
from flyatc.control import client, listeners, metrics
from flyatc.control.types import Bad, Verified
from flyatc.observe.counters import Counters
from flyatc.observe.log import Log


async def test_a_version_a_moment_or_an_orphan_but_one_of_them(tmp_path: Path) -> None:
    desk, log = Desk(), Log(io.BytesIO())
    one = listeners.Listeners(desk, log, tmp_path, None)
    await one.open()
    daemon = client.Client(str(tmp_path))

    async def restore(**chosen: str | float) -> None:
        await asyncio.to_thread(lambda: list(daemon.post_lines("/restore", address="b", database="a.db", **chosen)))

    try:
        await restore(at=1795262400.5)
        await restore(orphan="20261121T143000.123456Z-abcd1234")
        assert desk.reported == [
            "restore b a.db Moment(at=1795262400.5)",
            "restore b a.db OrphanChoice(name='20261121T143000.123456Z-abcd1234')",
        ]
        with pytest.raises(client.Refused, match="version, at and orphan: one of them at most"):
            await restore(at=1.0, version="000001-000000001")
    finally:
        await one.close()
        log.close()


async def test_the_drills_are_gauged_where_they_are_switched_on() -> None:
    overview = Desk().status()
    assert b"flyatc_verified" not in await metrics.scrape(overview, Counters())
    bad = Bad(tenant="bob", database="a.db", state="damaged", version="000001-000000001", why="x", at=STARTED)
    verified = Verified(databases=3, bad=[bad], first=STARTED, last=STARTED)
    reported = (await metrics.scrape(structs.replace(overview, verified=verified), Counters())).decode()
    assert "flyatc_verified_databases 3.0" in reported
    assert 'flyatc_verified_bad{state="damaged"} 1.0' in reported
    assert 'flyatc_verified_bad{state="unknown"} 0.0' in reported
    assert "flyatc_verified_age_seconds " in reported
