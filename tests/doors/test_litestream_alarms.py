"""A litestream that hangs, and a reader that never ends, while the app writes: reported, and healed if possible."""

import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakes.owners import FakeLease, previous
from fakes.streams import Streamer, Streamers, Writer, after, litestream_of
from fakes.waiting import eventually
from flyatc.databases.decisions import alarms
from flyatc.databases.litestream import stream_or_snapshot
from flyatc.databases.litestream.replication import Replication

FIRST = previous(0, clean=True)


@asynccontextmanager
async def first_row_sent(a: Streamer, one: FakeLease) -> AsyncIterator[tuple[Replication, Writer]]:
    """Its app has written a row, which the store has."""
    async with a.hold(one) as held:
        app = Writer(a.path)
        app.add(1)
        await eventually(lambda: held.streams[0].txid and not held.unsaved)
        yield held, app


async def test_a_litestream_which_hangs_is_reported_and_replaced_and_nothing_is_lost(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_or_snapshot, "ANSWER", 0.5)
    monkeypatch.setattr(alarms, "STUCK", 1.0)
    monkeypatch.setattr(alarms, "RENEW", 2.0)
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with first_row_sent(a, one) as (held, app):
        pid = litestream_of(a.data)
        os.kill(pid, signal.SIGSTOP)
        app.add(2)
        await eventually(lambda: held.gauges["stuck_seconds"])
        assert any("the store has got nothing of it for" in alarm for alarm in held.alarms)
        await eventually(lambda: not held.unsaved)
        await eventually(lambda: held.alarms == [])
        assert litestream_of(a.data) != pid
        app.add(3)
        app.close()
    levels = {event["message"]: event["level"] for event in a.log.reported}
    assert levels["the store gets what is written again"] == "info"
    assert any("got nothing" in str(message) and level == "error" for message, level in levels.items())
    assert await (await machines.machine("b")).session(after(one)) == [1, 2, 3]


async def test_a_store_which_is_away_is_an_alarm_but_nothing_is_sent_anew(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_or_snapshot, "ANSWER", 0.5)
    monkeypatch.setattr(alarms, "STUCK", 0.5)
    monkeypatch.setattr(alarms, "RENEW", 1.0)
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    store, away = machines.root / "store", machines.root / "away"
    async with first_row_sent(a, one) as (held, app):
        store.rename(away)
        store.write_text("no folder, in which litestream would write on")
        app.add(2)
        await eventually(lambda: held.gauges["stuck_seconds"] > 2)
        assert held.renewed == {}
        store.unlink()
        away.rename(store)
        await eventually(lambda: not held.unsaved and held.alarms == [])
        app.close()
    assert await (await machines.machine("b")).session(after(one)) == [1, 2]


async def test_what_litestream_wrote_where_the_folder_of_the_store_had_vanished_is_sent_again(
    machines: Streamers,
) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    store, away = machines.root / "store", machines.root / "away"
    async with first_row_sent(a, one) as (held, app):
        store.rename(away)
        app.add(2)
        await eventually(lambda: list(store.rglob("*.ltx")))
        await eventually(lambda: a.events("streaming is behind: tried again every second"))
        assert held.unsaved, "it is not in the store"
        store.rename(machines.root / "underneath")
        away.rename(store)
        app.add(3)
        await eventually(lambda: not held.unsaved)
        app.close()
        one.expire(lost=True)
    assert await (await machines.machine("b")).session(after(one, clean=False)) == [1, 2, 3], "lost with the machine"


async def test_a_reader_which_never_ends_makes_the_wal_large_which_is_reported(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "LARGE_WAL", 1 << 20)
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Writer(a.path)
        app.add(1)
        reader = sqlite3.connect(a.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        for number in range(2, 30):
            app.add(number, filling=50_000)
        await eventually(lambda: any("WAL" in alarm for alarm in held.alarms))
        assert held.gauges["wal_bytes"] > 1 << 20
        reader.close()
        app.close()
    assert [event["level"] for event in a.log.reported if "its WAL has" in str(event["message"])] == ["warning"]
