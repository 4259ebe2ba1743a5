"""Tests of what a stop calls saved is what another machine restores, from the store alone: shown with heavy writers."""

import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from fakes.owners import FakeLease, previous
from fakes.streams import Streamer, Streamers, after
from flyatc.databases.database import Database
from flyatc.databases.litestream import verify_replica
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent

FIRST = previous(0, clean=True)
SECONDS = 4.0  # of writing; one burst of three was enough to damage a replica with /sync
PAUSE = threading.Event()  # never set: to write at a rate


def opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE IF NOT EXISTS z (id INTEGER PRIMARY KEY, a TEXT, b BLOB)")
    database.execute("CREATE INDEX IF NOT EXISTS za ON z (a)")
    return database


def large_rows(database: sqlite3.Connection) -> None:
    """60 a second, of 20 KB."""
    database.execute("INSERT INTO z (a, b) VALUES (hex(randomblob(10)), randomblob(20000))")
    PAUSE.wait(1 / 60)


def transactions(database: sqlite3.Connection) -> None:
    """Ten rows of 2 KB each, without a pause; some are deleted, so that pages become free."""
    database.execute("BEGIN IMMEDIATE")
    for _ in range(10):
        database.execute("INSERT INTO z (a, b) VALUES (hex(randomblob(10)), randomblob(2000))")
    if random.random() < 0.2:
        database.execute("DELETE FROM z WHERE id IN (SELECT id FROM z ORDER BY random() LIMIT 60)")
    database.execute("COMMIT")
    PAUSE.wait(0.005)


def checkpointing(mode: str) -> Callable[[sqlite3.Connection], None]:
    def write(database: sqlite3.Connection) -> None:
        transactions(database)
        if random.random() < 0.02:
            database.execute("PRAGMA busy_timeout=50")
            database.execute(f"PRAGMA wal_checkpoint({mode})")
            database.execute("PRAGMA busy_timeout=30000")

    return write


class Busy:
    """An app which writes in a thread of its own, until it is closed."""

    def __init__(self, path: Path, write: Callable[[sqlite3.Connection], None]) -> None:
        self._database, self._write = opened(path), write
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        until = monotonic() + SECONDS
        while monotonic() < until:
            self._write(self._database)

    def close(self) -> None:
        """At once after its last transaction."""
        self._thread.join()
        self._database.close()


def rows(path: Path) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute("SELECT id, a, b FROM z ORDER BY id").fetchall()
    finally:
        database.close()


async def written(machine: Streamer, owned: FakeLease, write: Callable[[sqlite3.Connection], None]) -> None:
    """One run of the app, stopped at once after its last transaction."""
    async with machine.hold(owned):
        app = Busy(machine.path, write)
        await machine.tools.heavy.run(app.close)


async def restored_from_the_stream_alone(machines: Streamers, name: str, owned: FakeLease) -> list[tuple[object, ...]]:
    """On a machine which has nothing, without any snapshot."""
    for kept in machines.stored().glob("*.zst"):
        kept.unlink()
    (machines.stored() / "current.json").unlink()
    other = await machines.machine(name)
    async with other.hold(after(owned)):
        return rows(other.path)


@pytest.mark.parametrize(
    "write",
    [large_rows, transactions, checkpointing("TRUNCATE"), checkpointing("RESTART")],
    ids=["large rows", "transactions", "truncate", "restart"],
)
async def test_what_a_busy_app_wrote_until_its_end_is_restored_from_the_stream_alone(
    machines: Streamers, write: Callable[[sqlite3.Connection], None]
) -> None:
    a, owned = await machines.machine("a"), FakeLease(1, FIRST)
    for _ in range(2):  # the second run goes on in what the first one has left
        await written(a, owned, write)
        owned = after(owned)
    assert a.events("its stream is begun anew, and all is sent again") == [], "it was whole at the first try"
    expected = rows(a.path)
    assert await restored_from_the_stream_alone(machines, "b", owned) == expected


async def test_a_busy_app_may_be_backed_up_and_its_lag_stays_near_its_true_value(machines: Streamers) -> None:
    a = await machines.machine("a")
    async with a.hold(FakeLease(1, FIRST)) as held:
        app = Busy(a.path, large_rows)
        lags = []
        for _ in range(3):
            await held.save(silent)
            lags.append(held.lag)
        await a.tools.heavy.run(app.close)
    assert max(lags) < SECONDS / 2


async def test_a_stream_may_be_begun_anew_while_the_app_writes(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Busy(a.path, transactions)
        await held.save(silent)
        before = machines.ltx("e000001")
        await held.begin_anew(a.path.name, "a drill has found it damaged")
        assert held.renewed == {a.path.name: "a drill has found it damaged"}
        assert machines.ltx("e000001-01")
        assert set(before) <= set(machines.ltx("e000001")), "what was sent before stays as it is"
        await a.tools.heavy.run(app.close)
    (reported,) = a.events("its stream is begun anew, and all is sent again")
    assert (reported["level"], reported["left"], reported["now"]) == ("error", "e000001", "e000001-01")
    expected = rows(a.path)
    assert await restored_from_the_stream_alone(machines, "b", one) == expected
    assert len(machines.ltx("e000001-01")) > 0


async def test_a_stream_whose_litestream_dies_while_the_app_writes_is_begun_anew(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = Busy(a.path, checkpointing("RESTART"))
        await held.save(silent)
        a.door.engine._kill.set()
        await a.tools.heavy.run(app.close)
    expected = rows(a.path)
    assert machines.ltx("e000001-01")
    assert await restored_from_the_stream_alone(machines, "b", one) == expected


# --- a litestream which loses pages, and says that it has sent them ---


async def test_a_stream_which_does_not_restore_into_what_is_here_is_healed_by_a_new_line(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    whole = verify_replica.prove

    async def prove(database: Database, line: int, renewal: int, *rest: Any) -> verify_replica.Proven:
        if not renewal:
            raise verify_replica.Differs("page 7 of 9 is not as in the local database")
        return await whole(database, line, renewal, *rest)

    monkeypatch.setattr(verify_replica, "prove", prove)
    await a.session(one, 1, 2)
    assert not one.dirty
    (reported,) = a.events("its stream is begun anew, and all is sent again")
    assert "page 7" in str(reported["reason"])
    (saved,) = a.events("saved")
    assert str(saved["version"]).startswith("e000001-01:")
    assert machines.ltx("e000001"), "what was sent before stays as it is"
    for kept in machines.stored().glob("*.zst"):
        kept.unlink()
    (machines.stored() / "current.json").unlink()
    assert await (await machines.machine("b")).session(after(one), 3) == [1, 2]
    assert not machines.ltx("e000001-02")
    assert await (await machines.machine("a")).session(after(after(one))) == [1, 2, 3]


async def test_a_stream_which_is_damaged_again_and_again_ends_dirty_and_a_snapshot_has_all(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)

    async def prove(*args: object) -> verify_replica.Proven:
        raise verify_replica.Differs("page 7 of 9 is not as in the local database")

    monkeypatch.setattr(verify_replica, "prove", prove)
    with pytest.raises(SaveFailed, match=r"page 7.*start it again on this machine.*flyatc takeover"):
        await a.session(one, 1, 2)
    assert one.dirty
    monkeypatch.undo()
    shutil.rmtree(a.data)
    assert await (await machines.machine("b")).session(after(one, clean=False)) == [1, 2]


async def test_what_another_program_has_taken_out_of_the_replica_is_found_and_sent_again(machines: Streamers) -> None:
    """The content of the store is compared, whatever the cause."""
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        app = opened(a.path)
        for number in range(4):
            app.execute("INSERT INTO z (a, b) VALUES (?, randomblob(9000))", (str(number),))
            await held.save(silent)
        app.close()
        for file in machines.ltx()[1:]:
            file.unlink()
    expected = rows(a.path)
    assert await restored_from_the_stream_alone(machines, "b", one) == expected
