"""Holding a tenant's databases: restored, kept, created, saved."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import DATABASE, Yard, add, rows
from fakes.waiting import eventually
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent
from flyatc.tenants.interfaces import Databases


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def test_what_one_machine_saves_another_restores(yard: Yard, tmp_path: Path) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    assert await a.session(1, 2) == []
    assert await b.session(3) == [1, 2]
    (saved,) = b.events("saved")
    assert saved["version"] == "000001-000000002"
    assert (saved["tenant"], saved["database"]) == ("bellevue/2025/winter", DATABASE)
    assert {"size", "compressed", "ms"} <= saved.keys()
    (restored,) = b.events("restored")
    assert restored["version"] == "000001-000000001"


async def test_what_comes_out_of_the_hold_is_what_a_tenant_needs(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant) as held:
        databases: Databases = held
        assert databases.unsaved is False
        assert databases.saved_at is None
        add(a.path, 1)
        assert databases.unsaved is True
        await databases.save(silent)
        assert databases.unsaved is False
        assert databases.saved_at is not None
        with pytest.raises(SaveFailed, match="no database 'x'"):
            await databases.save(silent, only="x")


async def test_an_unchanged_database_is_not_saved_again(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    yard.failing.calls.clear()
    await a.session()
    assert yard.failing.calls == ["get current.json"]
    assert a.events("restored") == []


async def test_a_touched_database_with_the_same_content_makes_no_new_version(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    async with a.service.hold(a.tenant) as held:
        a.path.touch()
        assert held.unsaved
        await held.save(silent)
        assert not held.unsaved
    assert len(await a.service.history(a.tenant)) == 1


async def test_a_wal_that_the_app_keeps_open_counts_as_saved_until_the_next_write(yard: Yard, tmp_path: Path) -> None:
    """As root, SQLite sets the owner of a WAL that it opens, so each copy changes the WAL's ctime."""
    a = yard.machine("a")
    async with a.service.hold(a.tenant) as held:
        with contextlib.closing(sqlite3.connect(a.path, isolation_level=None)) as app:
            app.execute("PRAGMA journal_mode=WAL")
            app.execute("CREATE TABLE t (n INTEGER)")
            for number in range(3):
                app.execute("INSERT INTO t VALUES (?)", (number,))
                assert held.unsaved
                await held.save(silent)
                assert not held.unsaved
    assert len(a.events("saved")) == 3


async def test_several_databases_in_subfolders_are_one_tenant(yard: Yard, tmp_path: Path) -> None:
    names = ["main.db", "queue/jobs.db", "cache/jobs.db"]
    a, b = (yard.machine(name, names) for name in ("a", "b"))
    async with a.service.hold(a.tenant) as held:
        for number, name in enumerate(names):
            add(tmp_path / "a" / name, number)
        await held.save(silent, only="queue/jobs.db")
        assert [v.database for v in await a.service.history(a.tenant)] == ["queue/jobs.db"]
    async with b.service.hold(b.tenant):
        assert [rows(tmp_path / "b" / name) for name in names] == [[0], [1], [2]]


async def test_while_held_changes_are_saved_at_intervals(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a", interval=0.02)
    async with a.service.hold(a.tenant):
        add(a.path, 1)
        await eventually(lambda: len(a.events("saved")) == 1)
        add(a.path, 2)
        await eventually(lambda: len(a.events("saved")) == 2)
    b = yard.machine("b")
    assert await b.session() == [1, 2]


async def test_a_periodic_save_that_fails_is_reported_and_tried_again(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a", interval=0.02)
    async with a.service.hold(a.tenant) as held:
        yard.failing.fail()
        add(a.path, 1)
        await eventually(lambda: len(a.events("not saved")) > 1)
        (alarm,) = held.alarms
        assert alarm.startswith(f"{DATABASE} is not saved: ")
        yard.failing.mend()
        await eventually(lambda: len(a.events("saved")) == 1)
        await eventually(lambda: held.alarms == [])


async def test_a_store_that_is_away_refuses_the_start_and_changes_nothing(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    yard.failing.fail()
    with pytest.raises(RestoreRefused, match=r"the line is cut.*try again later"):
        await a.session(1)
    assert not a.path.exists()
    yard.failing.mend()
    await a.session(1)


async def test_one_refusal_leaves_all_databases_as_they_were(yard: Yard, tmp_path: Path) -> None:
    names = ["one.db", "two.db"]
    a, b = (yard.machine(name, names) for name in ("a", "b"))
    async with a.service.hold(a.tenant):
        for name in names:
            add(tmp_path / "a" / name, 1)
    for snapshot in (tmp_path / "store").rglob("two.db/*.zst"):
        snapshot.write_bytes(snapshot.read_bytes()[:-9])
    with pytest.raises(RestoreRefused, match=r"two\.db: the snapshot 000001-000000001 is damaged"):
        await b.session()
    assert not (tmp_path / "b" / "one.db").exists()
    assert list((tmp_path / "b" / ".flyatc").iterdir()) == []


async def test_a_final_save_that_fails_keeps_the_copy_and_says_so_on_record(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    with pytest.raises(SaveFailed, match="The local copy is kept"):
        await a.session(1, then=yard.failing.fail)
    yard.failing.mend()
    assert await a.service.unsaved([a.tenant]) == [a.tenant]
    assert await a.session() == [1]
    assert await a.service.unsaved([a.tenant]) == []
    b = yard.machine("b")
    assert await b.session() == [1]


async def test_a_daemon_that_was_killed_finds_its_databases_in_use(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    async with a.service.hold(a.tenant):
        add(a.path, 2)
        shutil.copytree(tmp_path / "a", tmp_path / "killed")  # the disk as a SIGKILL would leave it
    later = yard.machine("killed")
    assert await later.service.unsaved([later.tenant]) == [later.tenant]


async def test_a_cancelled_exit_saves_first(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")

    async def life(up: asyncio.Event) -> None:
        async with a.service.hold(a.tenant):
            add(a.path, 1)
            up.set()

    up = asyncio.Event()
    task = asyncio.get_running_loop().create_task(life(up))
    await up.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await a.service.unsaved([a.tenant]) == []
    assert await yard.machine("b").session() == [1]


async def test_a_cancelled_start_leaves_nothing_and_can_be_tried_again(yard: Yard, tmp_path: Path) -> None:
    await yard.machine("a").session(*range(2000))
    b = yard.machine("b")
    for turns in range(40):
        task = asyncio.get_running_loop().create_task(b.session())
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == list(range(2000))
    assert await b.session() == list(range(2000))
    assert await b.service.orphans(b.tenant) == []


async def test_a_tenant_is_held_once(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant):
        with pytest.raises(RestoreRefused, match="is in use"):
            await a.session()


async def test_a_database_that_the_app_never_makes_is_nothing_to_save(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant):
        pass
    async with a.service.hold(a.tenant):
        a.path.touch()  # opened, and nothing written
    assert await a.service.history(a.tenant) == []


async def test_a_database_that_the_app_removes_stays_in_the_store(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    async with a.service.hold(a.tenant):
        a.path.unlink()
    assert a.events("the app has removed its database; the store keeps it")
    assert await a.session() == [1]


async def test_a_database_that_the_app_empties_is_not_saved_over_the_good_one(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    with pytest.raises(SaveFailed, match="empty although it had content"):
        async with a.service.hold(a.tenant):
            a.path.write_bytes(b"")
    with pytest.raises(RestoreRefused, match="empty although it had content: move it away"):
        await a.session()
    a.path.unlink()
    assert await a.session() == [1]


async def test_a_seed_is_copied_where_the_store_surely_has_nothing(yard: Yard, tmp_path: Path) -> None:
    seed = tmp_path / "seed.sqlite3"
    add(seed, 7)
    for name, store, before in (("a", yard.store, [7]), ("b", yard.store, [7, 8]), ("c", None, [7])):
        assert await yard.machine(name, store=store, seed=str(seed)).session(8) == before
    assert rows(seed) == [7]


@pytest.mark.parametrize("fault", ["absent", "garbage", "in use"])
async def test_a_seed_that_cannot_be_checked_refuses(yard: Yard, tmp_path: Path, fault: str) -> None:
    seed = tmp_path / "seed.sqlite3"
    if fault == "garbage":
        seed.write_bytes(b"x" * 5000)
    elif fault == "in use":
        add(seed, 7)
        Path(f"{seed}-wal").write_bytes(b"x")
    with pytest.raises(RestoreRefused, match=r"its seed .* cannot be used"):
        await yard.machine("a", seed={DATABASE: str(seed)}).session()
    assert not (tmp_path / "a" / DATABASE).exists()


async def test_without_a_store_the_folder_is_all_there_is(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a", ["deep/er.db"], store=None)
    path = tmp_path / "a" / "deep" / "er.db"
    assert await a.session(1, path=path) == []
    assert await a.session(2, path=path) == [1]
    async with a.service.hold(a.tenant) as held:
        databases: Databases = held
        await databases.save(silent)
        assert (databases.unsaved, databases.saved_at) == (False, None)
    assert await a.service.unsaved([a.tenant]) == []
    with pytest.raises(RestoreRefused, match=r"storage\.mode is none"):
        await a.service.history(a.tenant)


async def test_a_stale_wal_beside_a_missing_database_is_set_aside(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE t (n INTEGER)")
        other.execute("INSERT INTO t VALUES (666)")
        other.commit()
        stale = Path(f"{tmp_path / 'other'}-wal").read_bytes()
    await a.session(1)
    for turn, before in ((1, [1]), (2, [1])):
        a.path.unlink()
        for end in ("-wal", "-shm", "-journal"):
            Path(f"{a.path}{end}").write_bytes(stale)
        assert await a.session() == before
        assert len(await a.service.orphans(a.tenant)) == turn
    assert (await a.service.orphans(a.tenant))[0].joinpath(f"{DATABASE}-wal").read_bytes() == stale
    shutil.rmtree(tmp_path / "store" / "users")
    new = yard.machine("new")
    new.path.parent.mkdir()
    Path(f"{new.path}-wal").write_bytes(stale)
    assert await new.session(3) == []
    assert rows(new.path) == [3]


async def test_a_stale_copy_is_set_aside_whole_and_the_store_wins(yard: Yard, tmp_path: Path) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await a.session(1)
    await b.session(2)
    add(a.path, 99)  # behind our back
    assert await a.session(3) == [1, 2]
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 99]
    (reported,) = a.events("the local copy was set aside")
    assert (reported["path"], reported["level"]) == (str(orphan), "warning")


@pytest.mark.parametrize("body", [b"", b"{", b'{"v": 1}', b'{"v":2,"databases":{}}', b"\xff"])
async def test_a_damaged_record_sets_the_copy_aside_and_loses_nothing(yard: Yard, tmp_path: Path, body: bytes) -> None:
    a = yard.machine("a")
    await a.session(1)
    add(a.path, 2)
    (tmp_path / "a" / ".flyatc" / "databases.json").write_bytes(body)
    assert await a.session(3) == [1]
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2]
    assert a.events("the record of the local databases is damaged: nothing is known of them")


async def test_a_record_that_cannot_be_read_refuses(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    record = tmp_path / "a" / ".flyatc" / "databases.json"
    record.unlink()
    record.mkdir()
    with pytest.raises(RestoreRefused, match="the local disk does not answer"):
        await a.session()
    assert await a.service.unsaved([a.tenant]) == [a.tenant]
    assert rows(a.path) == [1]


async def test_a_store_that_was_emptied_gets_the_local_copy_again(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    shutil.rmtree(tmp_path / "store" / "users")
    assert await a.session() == [1]
    assert a.events("the store has lost a database")
    assert await yard.machine("b").session() == [1]


async def test_what_is_lost_here_and_in_the_store_is_not_begun_anew_in_silence(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    await a.session(1)
    shutil.rmtree(tmp_path / "store" / "users")
    a.path.unlink()
    with pytest.raises(RestoreRefused, match="neither here nor in the store"):
        await a.session()


async def test_the_record_names_what_the_copy_descends_from(yard: Yard, tmp_path: Path) -> None:
    a = yard.machine("a")
    record = tmp_path / "a" / ".flyatc" / "databases.json"
    async with a.service.hold(a.tenant):
        assert json.loads(record.read_bytes())["databases"][DATABASE]["in_use"] is True
        add(a.path, 1)
    reported = json.loads(record.read_bytes())["databases"][DATABASE]
    pointer = json.loads(next((tmp_path / "store").rglob("current.json")).read_bytes())
    assert reported["base"] == {"key": pointer["key"], "sha256": pointer["sha256"]}
    assert (reported["in_use"], reported["pending"]) == (False, [])
