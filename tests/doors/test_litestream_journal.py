"""Apps which are not in WAL mode, or leave it, in litestream mode: served, saved as snapshots, and reported. The app
is a process of its own, as SQLite's locks are a process's."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from msgspec import structs

from fakes.owners import FakeLease, previous
from fakes.streams import Streamer, Streamers, after
from fakes.waiting import eventually
from flyatc.config.schema import Tenant
from flyatc.databases import local_files
from flyatc.databases.litestream import replication, wal_rules
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.litestream.wal_rules import Mode
from flyatc.kit.types import silent

FIRST = previous(0, clean=True)
APP = """
import sqlite3, sys
path, mode, *numbers = sys.argv[1:]
database = sqlite3.connect(path, isolation_level=None, timeout=1)
if mode: database.execute(f"PRAGMA journal_mode={mode}")
database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
for number in numbers: database.execute("INSERT INTO t VALUES (?)", (number,))
print(*[row[0] for row in database.execute("SELECT n FROM t ORDER BY n")])
"""


@pytest.fixture(autouse=True)
def _probed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_rules, "PROBE", 0.5)


class Locked(Exception):
    pass


async def visit(path: Path, mode: str, *numbers: int) -> list[int]:
    """One request of an app which opens its database for each: its rows. Raises Locked."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", APP, str(path), mode, *map(str, numbers), stdout=pipe, stderr=pipe
    )
    out, err = await child.communicate()
    if child.returncode != 0:
        assert b"database is locked" in err, err.decode()
        raise Locked
    return [int(word) for word in out.split()]


def mode_of(held: Replication) -> Mode:
    return held.streams[0].mode


async def rows_elsewhere(machines: Streamers, name: str, owned: FakeLease) -> list[int]:
    """Return what the store has, as a machine without any files sees it."""
    shutil.rmtree(machines.root / name, ignore_errors=True)
    b = await machines.machine(name)
    async with b.hold(owned):
        found = await visit(b.path, "")
    await b.close()
    return found


def lost(machine: Streamer) -> None:
    """The machine's disk."""
    shutil.rmtree(machine.data)


@pytest.mark.parametrize("name", ["what?.db", "#1.db", "50%20.db", "of two.db", "für.db", "{x}.db"])
async def test_a_database_whose_name_litestream_cannot_handle_is_saved_as_snapshots_and_reported(
    machines: Streamers, name: str
) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    a.tenant, path = with_database(a, name)
    async with a.hold(one) as held:
        assert await visit(path, "WAL", 1) == [1]
        await held.save(silent)
        assert any("which litestream does not support" in alarm for alarm in held.alarms)
        assert held.gauges["unstreamed"] == 1
        assert await visit(path, "", 2) == [1, 2]
    b = await machines.machine("b")
    b.tenant, path = with_database(b, name)
    async with b.hold(after(one)) as held:  # its file is there already
        assert held.streams[0].mode is Mode.SAVED
        assert await visit(path, "", 3) == [1, 2, 3]


def with_database(machine: Streamer, name: str) -> tuple[Tenant, Path]:
    app = structs.replace(machine.tenant.app, databases=[name])
    return structs.replace(machine.tenant, app=app), machine.tenant.data / name


async def test_an_app_which_is_not_in_wal_mode_is_served_saved_and_reported(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        await visit(a.path, "DELETE", 1)
        await eventually(lambda: mode_of(held) is Mode.SAVED)
        for number in range(2, 6):
            await visit(a.path, "DELETE", number)
        assert any("not in WAL mode" in alarm for alarm in held.alarms)
    assert local_files.format_version(a.path) == 1, "its journal mode is its own affair"
    assert machines.ltx() == []
    assert a.events("not streamed, saved as snapshots")
    two = after(one)
    async with a.hold(two) as held:
        assert mode_of(held) is Mode.SAVED, "at once, at the next start"
        await visit(a.path, "DELETE", 6)
        await held.save(silent)
        assert not held.unsaved
    assert await rows_elsewhere(machines, "b", after(two)) == [1, 2, 3, 4, 5, 6]


async def test_an_app_which_sets_no_mode_is_not_forced_into_wal(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        await visit(a.path, "", 1)
        await eventually(lambda: mode_of(held) is Mode.SAVED)
        await visit(a.path, "", 2)
    assert local_files.format_version(a.path) == 1
    assert await rows_elsewhere(machines, "b", after(one)) == [1, 2]


async def test_snapshots_are_made_at_the_interval_while_the_app_runs(machines: Streamers) -> None:
    a = await machines.machine("a", storage=structs.replace(machines.storage, interval=0.2))
    one = FakeLease(1, FIRST)
    async with a.hold(one) as held:
        for number in (1, 2):
            await visit(a.path, "DELETE", number)
            await eventually(lambda: mode_of(held) is Mode.SAVED and not held.unsaved and held.lag == 0.0)
        robbed = after(one, clean=False)
        assert await rows_elsewhere(machines, "b", robbed) == [1, 2], "also when this machine is lost now"
        one.expire(lost=True)


@pytest.mark.parametrize("sign", ["locked", "5xx"])
async def test_an_app_which_leaves_wal_mode_gets_its_way_and_nothing_is_lost(machines: Streamers, sign: str) -> None:
    """A new release of it sets another mode: the file still says WAL, and litestream has it before the app starts."""
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one):
        await visit(a.path, "WAL", 1)
    assert machines.ltx()
    failures, two = [0], after(one)
    a.tools.failures = lambda tenant: failures[0]
    async with a.hold(two) as held:
        assert mode_of(held) is Mode.STREAMED
        with pytest.raises(Locked):
            await visit(a.path, "DELETE", 2)
        if sign == "locked":
            a.log.output(a.tenant.address, "stderr", "sqlite3.OperationalError: database is locked")
        else:
            failures[0] += 1
        await eventually(lambda: mode_of(held) is Mode.PROBED)
        assert await visit(a.path, "DELETE", 2) == [1, 2]
        await eventually(lambda: mode_of(held) is Mode.SAVED and not held.unsaved)
        await visit(a.path, "DELETE", 3)
    assert a.events("not streamed for a moment")
    assert await rows_elsewhere(machines, "b", after(two)) == [1, 2, 3], "the snapshot is newer than the stream"


async def test_an_app_which_comes_back_to_wal_mode_streams_from_its_next_start_on(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one):
        await visit(a.path, "WAL", 1)
    await visit(a.path, "DELETE", 2)  # while no one looked
    two = after(one)
    async with a.hold(two) as held:
        assert mode_of(held) is Mode.SAVED
        await visit(a.path, "WAL", 3)
        assert mode_of(held) is Mode.SAVED
    three = after(two)
    async with a.hold(three) as held:
        assert mode_of(held) is Mode.STREAMED
        assert held.alarms == []
        await visit(a.path, "WAL", 4)
        await eventually(lambda: not held.unsaved)
        robbed = after(three, clean=False)
        assert await rows_elsewhere(machines, "b", robbed) == [1, 2, 3, 4], "the stream is newer than the snapshot"
        three.expire(lost=True)


async def test_a_start_which_failed_as_locked_begins_the_next_one_without_litestream(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one):
        await visit(a.path, "WAL", 1)
    two = after(one)
    async with a.hold(two):
        a.log.output(a.tenant.address, "stderr", "sqlite3.OperationalError: database is locked")  # and it ends
    three = after(two)
    async with a.hold(three) as held:
        assert mode_of(held) is Mode.PROBED
        await visit(a.path, "DELETE", 2)
        await eventually(lambda: mode_of(held) is Mode.SAVED)
    assert await rows_elsewhere(machines, "b", after(three)) == [1, 2]


async def test_an_app_which_is_only_crowded_is_streamed_again(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one):
        await visit(a.path, "WAL", 1)
    two = after(one)
    async with a.hold(two) as held:
        a.log.output(a.tenant.address, "stderr", "database is locked")
        await eventually(lambda: mode_of(held) is Mode.PROBED)
        await visit(a.path, "WAL", 2)
        await eventually(lambda: mode_of(held) is Mode.STREAMED)
        await visit(a.path, "WAL", 3)
        await eventually(lambda: not held.unsaved)
        a.log.output(a.tenant.address, "stderr", "database is locked")
        await eventually(lambda: not a.log.locked)
        assert mode_of(held) is Mode.STREAMED, "once in a run is enough"
        robbed = after(two, clean=False)
        assert await rows_elsewhere(machines, "b", robbed) == [1, 2, 3]
        two.expire(lost=True)


async def test_what_is_streamed_again_after_a_snapshot_is_newer_than_what_was_streamed_before_it(
    machines: Streamers,
) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one):
        await visit(a.path, "WAL", 1)
    two = after(one)
    async with a.hold(two) as held:
        await visit(a.path, "WAL", 2)
        await eventually(lambda: not held.unsaved)
        a.log.output(a.tenant.address, "stderr", "database is locked")
        await eventually(lambda: mode_of(held) is Mode.PROBED)
        await visit(a.path, "WAL", 3)
        await held.save(silent)
        await eventually(lambda: mode_of(held) is Mode.STREAMED)
        await visit(a.path, "WAL", 4)
        await eventually(lambda: not held.unsaved)
    assert await rows_elsewhere(machines, "b", after(two)) == [1, 2, 3, 4]


async def test_a_new_database_streams_at_once_however_rarely_the_others_are_looked_at(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "EVERY", 3600.0)
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    async with a.hold(one) as held:
        await visit(a.path, "WAL", 1)
        await eventually(lambda: mode_of(held) is Mode.STREAMED)
    assert await rows_elsewhere(machines, "b", after(one)) == [1]
