"""An app that puts something else in the place of the daemon's records, in the folder which belongs to it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import Yard, add, rows
from fakes.waiting import eventually
from flyatc.databases import links
from flyatc.databases import sqlite as databases_sqlite
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent
from slowness import SLOWNESS

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
TENANT = 200000  # a user id


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def test_records_that_are_a_link_to_another_tenants_leave_those_as_they_are(yard: Yard) -> None:
    a, neighbour = yard.machine("a"), yard.root / "neighbour" / ".flyatc"
    neighbour.mkdir(parents=True)
    (neighbour / "databases.json").write_text("the neighbour's")

    async def run() -> None:
        async with a.service.hold(a.tenant):
            add(a.path, 1)
            (a.tenant.data / ".flyatc").rename(a.tenant.data / "moved")
            (a.tenant.data / ".flyatc").symlink_to(neighbour)

    with pytest.raises(SaveFailed, match="it is a link"):
        await run()
    assert [path.name for path in neighbour.iterdir()] == ["databases.json"]
    assert (neighbour / "databases.json").read_text() == "the neighbour's"
    (a.tenant.data / ".flyatc").unlink()
    (a.tenant.data / "moved").rename(a.tenant.data / ".flyatc")
    async with a.service.hold(a.tenant):
        assert rows(a.path) == [1]


@ROOT
async def test_nothing_is_written_into_a_folder_that_the_app_has_made_in_the_place_of_the_records(yard: Yard) -> None:
    a = yard.machine("a")
    ours = a.tenant.data / ".flyatc"

    async def run() -> None:
        async with a.service.hold(a.tenant) as held:
            add(a.path, 1)
            ours.rename(a.tenant.data / "moved")
            ours.mkdir()
            (ours / "databases.json").touch()
            os.chown(ours, TENANT, TENANT)
            with pytest.raises(SaveFailed, match="belongs to another user"):
                await held.save(silent)

    with pytest.raises(SaveFailed, match="belongs to another user"):
        await run()
    assert [path.name for path in ours.iterdir()] == ["databases.json"]
    assert (ours / "databases.json").read_text() == ""


@ROOT
async def test_records_of_a_daemon_with_another_user_id_are_taken_over_unless_there_is_a_link_in_them(
    yard: Yard, tmp_path: Path
) -> None:
    a = yard.machine("a")
    assert await a.session(1) == []
    ours = a.tenant.data / ".flyatc"
    for path in (ours, *ours.iterdir()):
        os.chown(path, TENANT, TENANT)
    (ours / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="it is a link"):
        links.prepare(a.tenant.data, [])
    (ours / "link").unlink()
    assert await a.session(2) == [1]
    assert (ours.stat().st_uid, ours.stat().st_mode & 0o777) == (0, 0o700)


def test_a_link_beside_a_record_is_replaced_and_not_followed(tmp_path: Path) -> None:
    record = tmp_path / ".flyatc" / "databases.json"
    links.write(record, b"first")
    (tmp_path / "other").write_text("of another tenant")
    record.with_name("databases.json.new").symlink_to(tmp_path / "other")
    links.write(record, b"second")
    assert (tmp_path / "other").read_text() == "of another tenant"
    assert record.read_text() == "second"
    assert not record.is_symlink()


@pytest.mark.parametrize("name", ["app.sqlite3", "app.sqlite3-wal", "app.sqlite3-journal", ".flyatc/databases.json"])
async def test_a_pipe_that_an_app_leaves_refuses_its_own_start_and_delays_no_other_tenant(
    yard: Yard, name: str
) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    assert await a.session(1) == []
    (a.tenant.data / name).unlink(missing_ok=True)
    os.mkfifo(a.tenant.data / name)
    for _ in range(3):  # more often than there are threads
        with pytest.raises(RestoreRefused, match="it is no regular file"):
            await asyncio.wait_for(a.session(), 10 * SLOWNESS)
    (a.tenant.data / name).unlink()
    assert await b.session() == [1]


async def test_a_pipe_in_the_place_of_the_journal_fails_the_save_at_once(yard: Yard) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant) as held:
        add(a.path, 1)
        journal = a.path.with_name(f"{a.path.name}-journal")
        os.mkfifo(journal)
        with pytest.raises(SaveFailed, match="it is no regular file"):
            await asyncio.wait_for(held.save(silent), 10 * SLOWNESS)
        journal.unlink()


async def test_a_record_that_an_app_has_made_too_large_to_read_is_a_damaged_one(yard: Yard) -> None:
    a = yard.machine("a")
    assert await a.session(1) == []
    os.truncate(a.tenant.data / ".flyatc" / "databases.json", 1 << 40)
    assert await a.session() == [1]


async def test_a_folder_that_becomes_a_link_while_a_save_waits_for_its_turn_is_not_followed(yard: Yard) -> None:
    """The links are looked for before the wait; and an app is quick."""
    a = yard.machine("a", ["db/app.sqlite3"])
    mine, neighbour = a.tenant.data / "db", yard.root / "neighbour"
    neighbour.mkdir()
    add(neighbour / "app.sqlite3", 77)
    tools = a.service._tools
    async with a.service.hold(a.tenant) as held:
        add(mine / "app.sqlite3", 1)
        async with contextlib.AsyncExitStack() as busy:
            for _ in range(4):
                await busy.enter_async_context(tools.saves)
            saving = tasks.start(held.save(silent), "save")
            await eventually(lambda: tools.saves.locked() and bool(tools.saves._waiters))
            mine.rename(a.tenant.data / "moved")
            mine.symlink_to(neighbour)
        with pytest.raises(SaveFailed, match="it is a link"):
            await saving
        mine.unlink()
        (a.tenant.data / "moved").rename(mine)
    assert await yard.machine("b", ["db/app.sqlite3"]).session(path=yard.root / "b" / "db/app.sqlite3") == [1]


def test_a_copy_goes_into_no_folder_that_has_become_a_link(tmp_path: Path) -> None:
    data, neighbour = tmp_path / "data", tmp_path / "neighbour"
    (data / ".flyatc").mkdir(parents=True)
    neighbour.mkdir()
    add(neighbour / "copy", 77)
    add(data / "app.sqlite3", 1)
    (data / ".flyatc/save").symlink_to(neighbour)
    with pytest.raises(OSError, match="it is a link"):
        databases_sqlite.copy(data / "app.sqlite3", data / ".flyatc/save/copy", silent_tick, data=data)
    assert rows(neighbour / "copy") == [77]


def silent_tick(done: int, total: int) -> None:
    """No progress is shown."""
