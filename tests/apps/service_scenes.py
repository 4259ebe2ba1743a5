"""Scenes with a service which need a process of their own: ``service_scenes.py SCENE FOLDER``.

The deadly ones are played again and again in forked children; the n-th dies at its n-th change to a folder
(reported by Python's audit events). After each death the successors look what is left.
"""

import asyncio
import os
import resource
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fakes.machines import DATABASE, Machine, Yard, add, rows
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent

Scene = Callable[[Yard], Coroutine[Any, Any, None]]
DEADLY = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
DEAD = 9


def play(scene: Scene, root: Path) -> None:
    async def played() -> None:
        async with Yard(root) as yard:
            await scene(yard)

    asyncio.run(played())


def in_child(work: Callable[[], None]) -> int:
    """Its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(nth: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in DEADLY:
            seen += 1
            if seen == nth:
                os._exit(DEAD)

    sys.addaudithook(hook)


def deaths(prologue: Scene, story: Scene, successors: Scene, root: Path) -> int:
    """How many there were before the story came to its end."""
    nth, begun = 0, root / "begun"
    assert in_child(lambda: play(prologue, begun)) == 0, "the prologue"
    while True:
        nth += 1
        own = root / str(nth)
        shutil.copytree(begun, own)

        def live(own: Path = own, nth: int = nth) -> None:
            die_at(nth)
            play(story, own)

        code = in_child(live)
        assert code in (0, DEAD), f"the story of {nth} ended with {code}"
        assert in_child(lambda own=own: play(successors, own)) == 0, f"the successors of {nth}"  # type: ignore[misc]
        shutil.rmtree(own)
        if code == 0:
            return nth - 1


# --- the stories: a number that was written is found again, in the database or among the orphans ---


async def one(yard: Yard) -> None:
    await yard.machine("a", keep=2).session(1)
    (yard.root / "begun").touch()


async def nothing(yard: Yard) -> None:
    pass


async def more(yard: Yard) -> None:
    a = yard.machine("a", keep=2)
    async with a.service.hold(a.tenant):
        add(a.path, 2, wal=True)
        (yard.root / "written").touch()


async def nothing_is_lost(yard: Yard) -> None:
    a = yard.machine("a", keep=2)
    expected = [n for n, name in ((1, "begun"), (2, "written")) if (yard.root / name).exists()]
    assert await a.session(3) == expected
    assert await a.service.orphans(a.tenant) == []
    assert await yard.machine("successor").session() == [*expected, 3]
    assert await a.service.unsaved([a.tenant]) == []


async def elsewhere(yard: Yard) -> None:
    await yard.machine("b").session()


async def elsewhere_is_whole(yard: Yard) -> None:
    b = yard.machine("b")
    assert await b.session(3) == [1]
    assert await yard.machine("a").session() == [1, 3]


async def two_lines(yard: Yard) -> None:
    """b has a copy with 77 which the store never saw, and the store has moved on."""
    await yard.machine("a").session(1)
    b = yard.machine("b")
    await b.session()
    add(b.path, 77)
    await yard.machine("a").session(2)


async def both_lines_are_there(yard: Yard) -> None:
    b = yard.machine("b")
    assert await b.session() == [1, 2]
    orphans = await b.service.orphans(b.tenant)
    assert [1, 77] in [rows(orphan / DATABASE) for orphan in orphans]


async def three_versions(yard: Yard) -> None:
    a = yard.machine("a")
    for number in (1, 2, 3):
        await a.session(number)


async def turn_back(yard: Yard) -> None:
    a = yard.machine("a")
    await a.service.restore(a.tenant, DATABASE, "000001-000000001", silent)


async def turned_or_not(yard: Yard) -> None:
    """The old content, the new one, or (set aside, not yet replaced) the old one from the store; and all of history."""
    a = yard.machine("a")
    before = await a.session()
    assert before in ([1], [1, 2, 3]), before
    kept = [version.id[-1] for version in await a.service.history(a.tenant)]
    assert {"1", "2", "3"} <= set(kept)
    assert await yard.machine("successor").session() == before


# --- the same with files: row n and the file n belong together ---

FILES = ("storage",)


def both(machine: Machine, number: int, removed: int = 0) -> None:
    machine.storage.mkdir(exist_ok=True)
    (machine.storage / str(number)).write_text(str(number))
    add(machine.path, number)
    if removed:
        (machine.storage / str(removed)).unlink()


def found(machine: Machine) -> tuple[list[int], list[int]]:
    return rows(machine.path), sorted(int(path.name) for path in machine.storage.glob("*"))


async def look(yard: Yard, name: str) -> tuple[list[int], list[int]]:
    machine = yard.machine(name, files=FILES, keep=2)
    async with machine.service.hold(machine.tenant):
        return found(machine)


async def one_file(yard: Yard) -> None:
    a = yard.machine("a", files=FILES, keep=2)
    async with a.service.hold(a.tenant):
        both(a, 1)
    (yard.root / "begun").touch()


async def more_files(yard: Yard) -> None:
    a = yard.machine("a", files=FILES, keep=2)
    async with a.service.hold(a.tenant):
        both(a, 2)
        (yard.root / "written").touch()


async def no_file_is_lost(yard: Yard) -> None:
    expected = [n for n, name in ((1, "begun"), (2, "written")) if (yard.root / name).exists()]
    rows_there, files_there = await look(yard, "a")
    assert rows_there == expected, rows_there
    assert set(rows_there) <= set(files_there), "the app has written a row before its file"
    a = yard.machine("a", files=FILES, keep=2)
    async with a.service.hold(a.tenant):
        both(a, 3)
    assert await a.service.orphans(a.tenant) == []
    assert await look(yard, "successor") == ([*expected, 3], sorted({*files_there, 3}))
    assert await a.service.unsaved([a.tenant]) == []


async def files_elsewhere(yard: Yard) -> None:
    await look(yard, "b")


async def files_elsewhere_are_whole(yard: Yard) -> None:
    assert await look(yard, "b") == ([1], [1])
    b = yard.machine("b", files=FILES)
    async with b.service.hold(b.tenant):
        both(b, 3)
    assert await look(yard, "a") == ([1, 3], [1, 3])


async def two_folders(yard: Yard) -> None:
    """b has a file 77 which the store never saw, and the store has moved on."""
    await one_file(yard)
    await look(yard, "b")
    (yard.root / "b" / "storage" / "77").write_text("77")
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant):
        both(a, 2)


async def both_folders_are_there(yard: Yard) -> None:
    assert await look(yard, "b") == ([1, 2], [1, 2])
    b = yard.machine("b", files=FILES)
    orphans = [sorted(path.name for path in one.glob("storage/*")) for one in await b.service.orphans(b.tenant)]
    assert ["1", "77"] in orphans, orphans


async def three_pairs(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    for number in (1, 2, 3):
        async with a.service.hold(a.tenant):
            both(a, number)


async def turn_files_back(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    await a.service.restore(a.tenant, None, "000001-000000001", silent)


async def files_turned_or_not(yard: Yard) -> None:
    """A pair, old or new; or it is said that it is none. And all of history."""
    a = yard.machine("a", files=FILES)
    async with a.service.hold(a.tenant) as held:
        before = found(a)
        said = [one for one in held.alarms if "interrupted" in one]
    assert before in (([1], [1]), ([1, 2, 3], [1, 2, 3])) or said, (before, held.alarms)
    assert set(before[0]) <= set(before[1]), before
    kept = [version.id[-1] for version in await a.service.history(a.tenant, DATABASE)]
    assert {"1", "2", "3"} <= set(kept)
    assert await look(yard, "successor") == before


DEATHS: dict[str, tuple[Scene, Scene, Scene]] = {
    "save": (one, more, nothing_is_lost),
    "first save": (nothing, more, nothing_is_lost),
    "restore": (one, elsewhere, elsewhere_is_whole),
    "set aside": (two_lines, elsewhere, both_lines_are_there),
    "turn back": (three_versions, turn_back, turned_or_not),
    "files: save": (one_file, more_files, no_file_is_lost),
    "files: first save": (nothing, more_files, no_file_is_lost),
    "files: restore": (one_file, files_elsewhere, files_elsewhere_are_whole),
    "files: set aside": (two_folders, files_elsewhere, both_folders_are_there),
    "files: turn back": (three_pairs, turn_files_back, files_turned_or_not),
}


# --- limits ---


def fill(machine: Machine, octets: int) -> None:
    database = sqlite3.connect(machine.path)
    database.execute("CREATE TABLE IF NOT EXISTS b (x BLOB)")
    for _ in range(octets >> 20):
        database.execute("INSERT INTO b VALUES (?)", (os.urandom(1 << 19) * 2,))
    database.commit()
    database.close()


async def full(yard: Yard) -> None:
    """No file may grow beyond 1 MB: what a full disk does, to the copy, to the packed file, and to the upload."""
    a = yard.machine("a")
    await a.session(1)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        async with a.service.hold(a.tenant):
            fill(a, 4 << 20)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    except SaveFailed as error:
        print(error)
    else:
        raise AssertionError("saved beyond the end of the disk")
    assert [path.name for path in (yard.root / "a" / ".flyatc").iterdir()] == ["databases.json"]
    assert list((yard.root / "store" / ".flyatc" / "new").iterdir()) == []
    assert await yard.machine("b").session() == [1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await a.session()
    size = a.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    b = yard.machine("b")
    try:
        await b.session()
    except Exception as error:
        print(error)
    assert rows(b.path) == [1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await b.session()
    assert b.path.stat().st_size == size


async def memory(yard: Yard) -> None:
    """Prints by how many octets the process grew while 50 MB were saved and restored."""
    a, b = yard.machine("a"), yard.machine("b")
    async with a.service.hold(a.tenant) as held:
        add(a.path, 1)
        await held.save(silent)
        fill(a, 50 << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await b.session()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def main(scene: str, folder: str) -> None:
    if scene in DEATHS:
        print(deaths(*DEATHS[scene], Path(folder)))
    else:
        play({"full": full, "memory": memory}[scene], Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
