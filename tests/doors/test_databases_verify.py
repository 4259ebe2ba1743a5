"""Verify: the store's copies are restored beside, checked, and removed."""

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import FailingStore, Machine, Yard, add
from flyatc.databases.decisions import inventory
from flyatc.databases.verify import Scratch, Snapshots, Verdict, Verifier
from flyatc.databases.workers import Workers
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def drill(yard: Yard, machine: Machine, store: ObjectStore | None = None) -> list[Verdict]:
    """All that the store has."""
    log = Log(io.BytesIO())
    tools, own = Workers(24, log), Scratch(yard.root / "drills")
    try:
        made = Verifier([Snapshots(store or yard.failing, tools)], own, tools)
        found = inventory.take(await yard.store.list(inventory.folder(None))).databases
        verdicts = [verdict for one in found for verdict in await made.verify(machine.tenant, one)]
        assert list(own.path.iterdir()) == [], "nothing is left"
        return verdicts
    finally:
        own.remove()
        tools.close()
        log.close()
        assert list((yard.root / "drills" / "drills").iterdir()) == []


async def test_the_current_version_of_each_database_is_restored_and_checked(yard: Yard) -> None:
    a = yard.machine("a", ["one.db", "two.db", "never.db"])
    await a.session(1, path=a.path.with_name("one.db"))
    await a.session(2, path=a.path.with_name("one.db"), then=lambda: add(a.path.with_name("two.db"), 7))
    one, two = await drill(yard, a)
    assert (one.tenant, one.database, one.state, one.version) == (a.tenant.address, "one.db", "ok", "000001-000000002")
    assert (two.database, two.state, two.version, two.size) == ("two.db", "ok", "000001-000000001", 8192)
    assert one.ms >= 0


async def test_damage_is_reported_and_the_others_are_still_tried(yard: Yard) -> None:
    a = yard.machine("a", ["one.db", "two.db", "three.db"])

    def fill() -> None:
        for name in ("one.db", "two.db", "three.db"):
            add(a.path.with_name(name), 7)

    await a.session(then=fill)
    flipped, gone, _ = sorted(yard.snapshots())
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"\0")
    gone.unlink()
    one, three, two = await drill(yard, a)
    assert [one.state, three.state, two.state] == ["damaged", "damaged", "ok"]
    assert "000001-000000001.sqlite3.zst" in three.why, "what is missing is named"


async def test_a_pointer_that_is_damaged_or_missing_is_damage(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    pointer = yard.snapshots()[0].with_name("current.json")
    pointer.write_bytes(b"{")
    [found] = await drill(yard, a)
    assert (found.state, found.version) == ("damaged", None)
    assert "current.json in the store is damaged" in found.why
    pointer.unlink()
    [found] = await drill(yard, a)
    assert "snapshots but no current.json: restore one (the newest is 000001-000000001)" in found.why


async def test_an_index_that_lacks_a_row_is_found_by_the_thorough_check(yard: Yard) -> None:
    a = yard.machine("a")

    def broken() -> None:
        with contextlib.closing(sqlite3.connect(a.path)) as database:
            database.execute("CREATE TABLE w (n INTEGER, m INTEGER)")
            database.execute("CREATE INDEX by_n ON w (n)")
            database.execute("PRAGMA writable_schema=ON")
            database.execute("DELETE FROM sqlite_schema WHERE name = 'by_n'")
            database.commit()
        with contextlib.closing(sqlite3.connect(a.path)) as database:
            root = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute("INSERT INTO w VALUES (1, 1)")
            database.execute("PRAGMA writable_schema=ON")
            sql = ("index", "by_n", "w", root, "CREATE INDEX by_n ON w (n)")
            database.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", sql)
            database.commit()

    await a.session(1, then=broken)
    [found] = await drill(yard, a)
    assert found.state == "damaged"
    assert "PRAGMA integrity_check says: " in found.why


async def test_a_store_that_is_away_is_no_damage(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    for call in (1, 2):
        yard.failing.fail(call)
        [found] = await drill(yard, a)
        assert (found.state, found.why) == ("unknown", "the line is cut")


async def test_a_version_which_a_newer_one_has_pushed_out_meanwhile_is_not_missed(yard: Yard) -> None:
    a = yard.machine("a", keep=1, store=yard.store)
    await a.session(1)

    class Moving(FailingStore):
        """A save comes between its first answer and the first download."""

        async def get(self, key: str) -> tuple[bytes, str] | None:
            found = await super().get(key)
            if len(yard.snapshots()) == 1 and "000000001" in yard.snapshots()[0].name:
                await a.session(2)
            return found

    [found] = await drill(yard, a, Moving(yard.store))
    assert (found.state, found.version) == ("ok", "000001-000000002")


async def test_without_room_it_is_not_tried(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    pointer = yard.snapshots()[0].with_name("current.json")
    pointer.write_text(json.dumps({**json.loads(pointer.read_bytes()), "size": 1 << 60}))
    yard.failing.calls.clear()
    [found] = await drill(yard, a)
    assert found.state == "unknown"
    assert "no room to restore it: " in found.why
    assert not [call for call in yard.failing.calls if call.startswith("download")]


def test_scratch_of_a_killed_verify_is_removed_and_that_of_a_running_one_is_not(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from flyatc.databases.verify import Scratch\n"
    code += "made = Scratch(Path(sys.argv[1])); (made.path / 'customers').touch(); print(made.path, flush=True)\n"
    code += "sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        theirs = Path(child.stdout.readline().strip())
        ours = Scratch(tmp_path)
        assert (theirs / "customers").exists()
        assert theirs.stat().st_mode & 0o777 == 0o700
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        Scratch(tmp_path).remove()
        assert not theirs.exists()
        assert ours.path.exists()
        ours.remove()
