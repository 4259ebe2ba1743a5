"""SQLite itself: writers in other processes, hot WALs and journals, locks, and limits of disk and memory."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import DATABASE, Yard, add, rows
from flyatc.databases import sqlite
from flyatc.kit.types import silent

SCENES = str(Path(__file__).parents[1] / "apps" / "service_scenes.py")

# Writes pairs which must always sum up to 0, until its standard input says something.
WRITER = """
import select, sqlite3, sys
path, mode = sys.argv[1:]
database = sqlite3.connect(path, timeout=30, isolation_level=None)
database.execute(f"PRAGMA journal_mode={mode}")
database.execute("PRAGMA synchronous=OFF")
database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER, filling TEXT)")
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    database.execute("BEGIN")
    database.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 500))
    database.execute("INSERT INTO t VALUES (?, ?)", (-number, "x" * 500))
    database.execute("COMMIT")
    if number == 20:
        print("going", flush=True)
"""

HOT_JOURNAL = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size=2")
database.execute("BEGIN")
database.execute("UPDATE t SET n = 0")
database.executemany("INSERT INTO t VALUES (?)", [(0,)] * 50000)
print("going", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def child(program: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs until it is asked to end, or was killed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *arguments, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"going\n"
    try:
        yield process
    finally:
        await process.communicate(b"stop\n")


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_what_is_saved_while_another_process_writes_is_consistent(yard: Yard, mode: str) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant) as held, child(WRITER, str(a.path), mode):
        for turn in range(3):
            await held.save(silent)
            found = rows(await restored(yard, f"reader {turn}"))
            assert sum(found) == 0
            assert len(found) >= 40
    assert sum(rows(await restored(yard, "last"))) == 0
    assert rows(a.path) == rows(yard.root / "last" / DATABASE)


async def restored(yard: Yard, name: str) -> Path:
    machine = yard.machine(name)
    await machine.session()
    return machine.path


async def test_a_hot_wal_left_by_a_killed_writer_is_saved(yard: Yard) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant):
        async with child(WRITER, str(a.path), "WAL") as writer:
            writer.kill()
        wal = Path(f"{a.path}-wal").read_bytes()
        assert wal
    found = rows(await restored(yard, "b"))
    assert len(found) >= 40
    assert sum(found) == 0
    assert await a.session() == found


async def test_a_hot_journal_left_by_a_killed_writer_is_rolled_back(yard: Yard) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant):
        add(a.path, *range(2000))
        async with child(HOT_JOURNAL, str(a.path)) as writer:
            writer.kill()
        assert Path(f"{a.path}-journal").stat().st_size
    assert rows(await restored(yard, "b")) == list(range(2000))


async def test_a_save_leaves_the_locks_of_the_app_alone(yard: Yard) -> None:
    """POSIX locks are dropped when any descriptor of the file is closed in the process which holds them."""
    a = yard.machine("a")
    await a.session(1)
    async with a.service.hold(a.tenant) as held:
        with contextlib.closing(sqlite3.connect(a.path, isolation_level=None)) as here:
            here.execute("BEGIN")
            here.execute("SELECT * FROM t").fetchall()
            a.path.touch()
            await held.save(silent)
            other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('DROP TABLE t')"
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", other, str(a.path), stderr=asyncio.subprocess.PIPE
            )
            _, said = await process.communicate()
            assert b"database is locked" in said
            here.execute("COMMIT")


async def test_the_journal_mode_of_the_app_survives(yard: Yard) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant):
        add(a.path, 1, wal=True)
    path = await restored(yard, "b")
    assert sorted(file.name for file in path.parent.iterdir()) == [".flyatc", DATABASE]
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_database_with_the_apps_own_functions_and_broken_constraints_passes(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.create_collation("mine", lambda a, b: (a > b) - (a < b))
        database.create_function("own", 1, lambda n: n, deterministic=True)
        database.execute("CREATE TABLE t (n TEXT COLLATE mine PRIMARY KEY, m INTEGER CHECK (m > 0))")
        database.execute("CREATE TABLE g (n INTEGER, m AS (own(n)) STORED, CHECK (own(n) = n))")
        database.execute("PRAGMA ignore_check_constraints=ON")
        database.execute("INSERT INTO t VALUES ('x', -1)")
        database.execute("INSERT INTO g VALUES (1)")
        database.commit()
    sqlite.check_still(path)
    sqlite.copy(path, tmp_path / "copy", lambda done, total: None)
    sqlite.check_still(tmp_path / "copy")


def test_a_file_that_is_no_database_cannot_be_copied(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 5000)
    for name in ("x", "none"):
        with pytest.raises(sqlite.Unusable):
            sqlite.copy(tmp_path / name, tmp_path / f"copy of {name}", lambda done, total: None)
        with pytest.raises(sqlite.Unusable):
            sqlite.check_local(tmp_path / name)
    assert not (tmp_path / "none").exists()


async def scene(name: str, folder: Path) -> str:
    environment = {"PYTHONPATH": str(Path(SCENES).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCENES, name, str(folder), env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_a_full_disk_fails_the_save_and_the_restore_and_harms_nothing(tmp_path: Path) -> None:
    reported = (await scene("full", tmp_path)).splitlines()
    assert "is not saved" in reported[0]
    assert "Nothing was changed" in reported[1]


async def test_memory_does_not_grow_with_the_size_of_a_database(tmp_path: Path) -> None:
    assert int(await scene("memory", tmp_path)) < 40 << 20
