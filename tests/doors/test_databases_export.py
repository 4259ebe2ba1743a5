"""Copies of databases for an operator: of the newest content, of versions, of orphaned copies. Nothing else changes."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fakes.machines import DATABASE, Machine, Yard, add, rows
from fakes.owners import FakeLease
from flyatc.daemon.copies import AT_ONCE, Copies
from flyatc.databases import local_files
from flyatc.databases.decisions.version_choice import Choice, Moment, OrphanChoice
from flyatc.databases.service import DatabaseService
from flyatc.kit.errors import FlyatcError, RestoreRefused
from flyatc.kit.types import silent


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def exported(machine: Machine, choice: Choice = None, name: str = DATABASE) -> list[int]:
    """The rows of a copy. It is removed, and the store and the local file are as before."""
    store, before = machine.service._store, local_files.signature(machine.path)
    assert store is not None
    keys = await store.list("users/")
    own = machine.tenant.data.parent / "own"
    async with Copies(machine.service, own).made(machine.tenant, name, choice, silent) as copy:
        (folder,) = (own / "drills").iterdir()
        assert folder in copy.parents
        assert not folder.stat().st_mode & 0o077, "it is private"
        found = rows(copy)
    assert list((own / "drills").iterdir()) == []
    assert await store.list("users/") == keys
    assert local_files.untouched(before, local_files.signature(machine.path))
    return found


async def test_a_version_a_moment_and_the_newest_are_copied_from_the_store(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    for number in (1, 2, 3):
        await a.session(number)
    newest, _, oldest = await a.service.history(a.tenant)
    for machine in (a, b):  # b has no local file
        assert await exported(machine) == [1, 2, 3]
        assert await exported(machine, oldest.id) == [1]
        assert await exported(machine, Moment(newest.saved - 0.002)) == [1, 2]


async def test_the_newest_content_of_a_running_app_is_copied_with_its_wal(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    async with a.service.hold(a.tenant):
        database = sqlite3.connect(a.path, isolation_level=None)
        with contextlib.closing(database):
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("INSERT INTO t VALUES (2)")
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO t VALUES (3)")  # not committed
            assert await exported(a) == [1, 2]
            database.execute("COMMIT")
            assert await exported(a) == [1, 2, 3]


async def test_what_a_killed_daemon_has_not_saved_is_the_newest_content(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    await a.service.mark_in_use(a.tenant)
    add(a.path, 2)
    assert await exported(a) == [1, 2]


async def test_what_another_machine_has_saved_since_is_newer_than_an_unsaved_copy_here(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    async with a.service.hold(a.tenant, FakeLease(1)):
        add(a.path, 1)
    add(a.path, 77)  # as by a daemon that is killed before it saves
    await a.service.mark_in_use(a.tenant)
    assert await exported(a) == [1, 77]
    async with b.service.hold(b.tenant, FakeLease(2)):
        add(b.path, 2)
    assert await exported(a) == [1, 2]


async def test_an_orphaned_copy_is_copied(yard: Yard) -> None:
    await yard.machine("a").session(1)
    b = yard.machine("b")
    await b.session()
    add(b.path, 77)
    await yard.machine("a").session(2)
    await b.session()
    await b.service.sent()
    [folder] = await b.service.orphans(b.tenant)
    assert await exported(b, OrphanChoice(folder.name)) == [1, 77]
    assert await exported(yard.machine("c"), OrphanChoice(folder.name)) == [1, 77]


@pytest.mark.parametrize(
    ("name", "choice", "reason"),
    [
        ("nonesuch.db", None, "has no database 'nonesuch.db'; it has app.sqlite3"),
        ("../../../etc/passwd", None, "has no database"),
        (DATABASE, "000009-000000009", "has no version '000009-000000009'"),
        (DATABASE, Moment(1.0), "there is no version from 1970"),
        (DATABASE, OrphanChoice("x"), "there is no orphaned copy"),
    ],
)
async def test_a_copy_of_something_that_does_not_exist_is_refused(
    yard: Yard, name: str, choice: Choice, reason: str
) -> None:
    a = yard.machine("a")
    await a.session(1)
    with pytest.raises(RestoreRefused, match=reason):
        await exported(a, choice, name)


async def test_a_damaged_database_a_link_and_a_full_disk_are_refused(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = yard.machine("a")
    await a.session(1)
    await a.service.mark_in_use(a.tenant)
    with monkeypatch.context() as patched:
        patched.setattr("flyatc.databases.rollback.RESERVE", 1 << 60)
        with pytest.raises(RestoreRefused, match=r"are needed"):
            await exported(a)
    a.path.write_bytes(a.path.read_bytes()[:4096] + b"x" * 4096)
    with pytest.raises(RestoreRefused, match=r"cannot be copied"):
        await exported(a)
    a.path.rename(tmp_path / "moved")
    with pytest.raises(RestoreRefused, match=r"does not exist yet"):
        async with Copies(a.service, tmp_path / "own").made(a.tenant, DATABASE, None, silent):
            pass
    a.path.symlink_to(tmp_path / "moved")
    with pytest.raises(RestoreRefused, match=r"it is a link"):
        await exported(a)
    assert list((tmp_path / "own" / "drills").iterdir()) == []


async def test_only_a_few_copies_are_made_at_once_and_a_cancelled_one_leaves_nothing(tmp_path: Path) -> None:
    begun: list[Path] = []

    async def export(tenant: Any, name: str, choice: Choice, place: Path, progress: Any) -> Path:
        (place / "part").write_bytes(b"x")
        begun.append(place)
        await asyncio.Event().wait()
        return place

    copies = Copies(cast("DatabaseService", SimpleNamespace(export=export)), tmp_path)

    async def download() -> None:
        async with copies.made(cast("Any", None), DATABASE, None, silent):
            pass

    async with asyncio.timeout(10):
        downloads = [asyncio.ensure_future(download()) for _ in range(AT_ONCE)]  # noqa: TID251
        while len(begun) < AT_ONCE:
            await asyncio.sleep(0.01)
        with pytest.raises(FlyatcError, match=r"2 copies are being made or downloaded already"):
            await download()
        for one in downloads:
            one.cancel()
        await asyncio.gather(*downloads, return_exceptions=True)
    assert not any(place.exists() for place in begun)
    assert copies._made == 0


async def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("a file")
    copies = Copies(cast("DatabaseService", None), tmp_path / "own")
    with pytest.raises(FlyatcError, match="a copy cannot be made below"):
        async with copies.made(cast("Any", None), DATABASE, None, silent):
            pass
