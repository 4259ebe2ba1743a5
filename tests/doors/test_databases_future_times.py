"""Databases whose files have a time in the future: copied from another machine, or the clock was set back."""

import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import Yard, add
from fakes.owners import FakeLease, previous
from fakes.streams import Streamers, Writer
from fakes.waiting import eventually
from flyatc.databases import find_databases, local_files
from flyatc.kit.types import silent

AHEAD = (time.time_ns() // 10**9 + 86400) * 10**9


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


def date_ahead(*paths: Path) -> None:
    """As a file copied from a machine whose clock is ahead."""
    for path in paths:
        os.utime(path, ns=(AHEAD, AHEAD))


@pytest.mark.parametrize("wal", [False, True])
async def test_a_file_from_the_future_is_saved_once_and_each_later_change_of_it(
    yard: Yard, tmp_path: Path, *, wal: bool
) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant) as held:
        with contextlib.closing(sqlite3.connect(a.path)) as app:
            app.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
            app.execute("CREATE TABLE t (n INTEGER)")
            app.commit()
            for number in range(3):
                date_ahead(*(one for one in a.path.parent.glob("app.sqlite3*") if not one.name.endswith("-shm")))
                assert held.unsaved
                assert held.changed is not None
                assert held.changed[1] < time.time()
                await held.save(silent)
                assert not held.unsaved
                app.execute("UPDATE t SET n = n + 1" if number else "INSERT INTO t VALUES (0)")
                app.commit()
                assert held.unsaved
    b = yard.machine("b")
    assert await b.session() == [2]


async def test_a_clock_that_was_set_back_has_everything_saved_once_more_without_a_new_version(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later write may get the time again that the file had when it was saved."""
    a = yard.machine("a")
    async with a.service.hold(a.tenant) as held:
        add(a.path, 1)
        await held.save(silent)
        assert not held.unsaved
        monkeypatch.setattr(local_files, "time", lambda: time.time() - 1.0)
        assert held.unsaved
        await held.save(silent)
        assert not held.unsaved
    assert len(a.events("saved")) == 1


async def test_after_a_restart_a_time_in_the_future_does_not_count_as_saved(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = yard.machine("a")
    await a.session(1)
    monkeypatch.setattr(local_files, "time_ns", lambda: time.time_ns() - 3600 * 10**9)
    async with a.service.hold(a.tenant) as held:
        assert held.unsaved
        await held.save(silent)
        assert not held.unsaved
    assert len(a.events("saved")) == 1


async def test_a_streamed_database_from_the_future_counts_as_saved(machines: Streamers) -> None:
    a = await machines.machine("a")
    async with a.hold(FakeLease(1, previous(0, clean=True))) as held:
        app = Writer(a.path)
        app.add(1)
        date_ahead(a.path, a.path.with_name(f"{a.path.name}-wal"))
        await eventually(lambda: not held.unsaved)
        app.add(2)
        assert held.unsaved
        await eventually(lambda: not held.unsaved)
        app.close()


def test_a_database_from_the_future_was_not_written_since_the_start(tmp_path: Path) -> None:
    """Two tenants may share a database which no one writes."""
    path = tmp_path / "reference.sqlite3"
    add(path, 1)
    assert find_databases.changed(str(path)) > 0
    date_ahead(path)
    assert find_databases.changed(str(path)) == 0
