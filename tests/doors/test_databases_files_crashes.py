"""A save or a restore of databases and files may be cut at any step: a pair is left, or it is said."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import Machine, Yard, add, rows
from fakes.owners import FakeLease, previous
from flyatc.databases.app_files.holder import FilesHolder
from flyatc.databases.decisions.version_choice import Moment
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent

SCENES = str(Path(__file__).parents[1] / "apps" / "service_scenes.py")
FILES = ("storage",)
APART = "the files and the databases are not of one moment"


@pytest.fixture
async def yard(in_memory: Path) -> AsyncIterator[Yard]:
    async with Yard(in_memory) as made:
        yield made


def work(machine: Machine, number: int, removed: int = 0) -> None:
    """A row and its file; and a row that goes, with its file."""
    machine.storage.mkdir(exist_ok=True)
    (machine.storage / f"{number}.txt").write_text(f"file {number}")
    (machine.storage / "all.txt").write_text(f"changed {number}")
    add(machine.path, number)
    if removed:
        add(machine.path, -removed)
        (machine.storage / f"{removed}.txt").unlink()


def pair(machine: Machine) -> tuple[list[int], list[int]]:
    """Rows that are there, and the numbers of files. Fails if a row's file is missing."""
    found = rows(machine.path)
    alive = sorted(number for number in found if number > 0 and -number not in found)
    names = {path.stem: path.read_text() for path in machine.storage.glob("[0-9]*.txt")}
    assert all(text == f"file {name}" for name, text in names.items())
    return alive, sorted(int(name) for name in names)


async def session(
    machine: Machine, number: int = 0, removed: int = 0, lease: FakeLease | None = None
) -> tuple[list[int], list[int]]:
    async with machine.service.hold(machine.tenant, lease):
        before = pair(machine)
        if number:
            work(machine, number, removed)
    return before


# a save of both has 13 calls: get, list, get, list, list, two contents, the manifest, its pointer, list, the database …
@pytest.mark.parametrize("nth", range(1, 15))
@pytest.mark.parametrize(("after", "times"), [(False, 1000), (True, 1000), (True, 1)], ids=["before", "after", "once"])
async def test_a_save_cut_at_any_call_leaves_a_pair_and_loses_nothing(
    yard: Yard, nth: int, after: bool, times: int
) -> None:
    a = yard.machine("a", files=FILES)
    await session(a, 1, lease=FakeLease(1))
    await session(a, 2, lease=FakeLease(2))
    failed = False
    try:
        async with a.service.hold(a.tenant, FakeLease(3)):
            yard.failing.fail(nth, times, after=after)
            work(a, 3, removed=1)
    except SaveFailed:
        failed = True
    yard.failing.mend()
    lost = yard.machine("lost", files=FILES)  # the machine is lost: what has the store?
    alive, there = await session(lost, lease=FakeLease(4, previous(3, clean=not failed)))
    assert alive in ([1, 2], [2, 3])
    assert set(alive) <= set(there), "a row without its file"
    if not failed:
        assert (alive, there) == ([2, 3], [2, 3])
    for event in lost.events(APART):
        assert alive == [1, 2]
        assert "is newer and does not belong to them" in str(event["reason"])
    same = yard.machine("a", files=FILES)  # it comes back: the other has changed nothing
    alive, there = await session(same, 4, lease=FakeLease(5, previous(4, clean=True)))
    assert alive == there == [2, 3]
    successor = yard.machine("successor", files=FILES)
    assert await session(successor, lease=FakeLease(6)) == ([2, 3, 4], [2, 3, 4])


@pytest.mark.parametrize("nth", range(1, 15))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_the_same_machine_goes_on_with_all_it_had(yard: Yard, nth: int, after: bool) -> None:
    a = yard.machine("a", files=FILES)
    await session(a, 1)
    try:
        async with a.service.hold(a.tenant):
            yard.failing.fail(nth, after=after)
            work(a, 2, removed=1)
    except SaveFailed:
        again = yard.machine("a", files=FILES)
        assert await again.service.unsaved([again.tenant]) == [again.tenant]
    yard.failing.mend()
    again = yard.machine("a", files=FILES)
    assert await session(again, 3) == ([2], [2])
    assert await again.service.orphans(again.tenant) == []
    assert await session(yard.machine("successor", files=FILES)) == ([2, 3], [2, 3])


@pytest.mark.parametrize("nth", range(1, 15))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_a_first_save_cut_at_any_call_before_the_machine_is_lost_leaves_a_pair(
    yard: Yard, nth: int, after: bool
) -> None:
    a = yard.machine("a", files=FILES)
    try:
        async with a.service.hold(a.tenant, FakeLease(1)):
            yard.failing.fail(nth, after=after)
            work(a, 1)
        saved = True
    except SaveFailed:
        saved = False
    yard.failing.mend()
    lost = yard.machine("lost", files=FILES)
    alive, there = await session(lost, 2, lease=FakeLease(2, previous(1, clean=saved)))
    if not set(alive) <= set(there):
        (said,) = lost.events(APART)
        assert said["reason"] == "storage/ was not saved with app.sqlite3"
    assert alive == [1] or not saved
    successor = yard.machine("successor", files=FILES)
    alive_then, there_then = await session(successor, lease=FakeLease(3))
    assert (alive_then, there_then) == ([*alive, 2], [*there, 2])


@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_a_restore_cut_at_any_call_refuses_and_is_made_again(yard: Yard, nth: int, after: bool) -> None:
    await session(yard.machine("a", files=FILES), 1)
    yard.failing.fail(nth, after=after)
    b = yard.machine("b", files=FILES)
    refused = False
    try:
        await session(b)
    except RestoreRefused:
        refused = True
    assert b.storage.exists() is not refused
    yard.failing.mend()
    assert await b.service.unsaved([b.tenant]) == []
    assert await session(b, 2) == ([1], [1])


@pytest.mark.parametrize("nth", range(1, 16))
async def test_a_restore_to_a_moment_cut_at_any_call_leaves_a_pair(yard: Yard, nth: int) -> None:
    a = yard.machine("a", files=FILES)
    await session(a, 1)
    moment = (await a.service.history(a.tenant))[0].saved
    await asyncio.sleep(0.002)  # saves are distinguished by the millisecond
    await session(a, 2, removed=1)
    yard.failing.fail(nth)
    with contextlib.suppress(RestoreRefused, SaveFailed):
        await a.service.restore(a.tenant, None, Moment(moment), silent)
    yard.failing.mend()
    alive, there = await session(yard.machine("lost", files=FILES))
    assert alive in ([1], [2])
    assert set(alive) <= set(there)
    alive, there = await session(yard.machine("a", files=FILES))
    assert alive == there


async def test_a_file_removed_after_the_copy_of_its_database_stays_in_the_pair_and_goes_with_the_next_save(
    yard: Yard,
) -> None:
    a = yard.machine("a", files=FILES)
    await session(a, 1)
    async with a.service.hold(a.tenant) as held:
        add(a.path, 2)
        assert isinstance(held, FilesHolder)
        (folder,) = held.folders

        def removing() -> dict[str, str]:
            """Called when the database has been copied, and before the files are looked at."""
            (a.storage / "1.txt").unlink(missing_ok=True)
            return {}

        unchanged, folder.unchanged = folder.unchanged, removing
        await held.save(silent)
        folder.unchanged = unchanged
        assert not (a.storage / "1.txt").exists()
        assert await session(yard.machine("b", files=FILES)) == ([1, 2], [1])
        await held.save(silent)
        assert await session(yard.machine("c", files=FILES)) == ([1, 2], [])
    await a.service.restore(a.tenant, "storage/", None, silent)
    assert not (a.storage / "1.txt").exists()


async def test_a_new_file_removed_after_the_copy_of_its_database_is_in_the_pair_too(yard: Yard) -> None:
    a = yard.machine("a", files=FILES)
    await session(a, 1)
    async with a.service.hold(a.tenant) as held:
        assert isinstance(held, FilesHolder)
        (folder,) = held.folders
        large = a.storage / "deep" / "large"
        work(a, 2)
        large.parent.mkdir()
        large.write_bytes(b"x" * 600_000)

        def removing() -> dict[str, str]:
            (a.storage / "2.txt").unlink(missing_ok=True)
            shutil.rmtree(large.parent, ignore_errors=True)
            return {}

        unchanged, folder.unchanged = folder.unchanged, removing
        await held.save(silent)
        folder.unchanged = unchanged
        assert not large.exists()
        b = yard.machine("b", files=FILES)
        assert await session(b) == ([1, 2], [1, 2])
        assert (b.storage / "deep" / "large").read_bytes() == b"x" * 600_000
        await held.save(silent)
        assert await session(yard.machine("c", files=FILES)) == ([1, 2], [1])
        assert not list((a.tenant.data / ".flyatc").glob("save-*"))


async def test_a_file_that_came_just_before_the_copy_of_its_database_and_went_during_the_upload_is_in_the_pair(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = yard.machine("a", files=FILES)
    await session(a, 1)
    async with a.service.hold(a.tenant) as held:
        assert isinstance(held, FilesHolder)
        (folder,) = held.folders
        remember, snapshots = folder.remember, folder.remote.snapshots

        async def remember_and_go_on() -> None:
            await remember()
            work(a, 2)

        async def remove_and_list() -> list[str]:  # called between the look at the files and their upload
            (a.storage / "2.txt").unlink(missing_ok=True)
            return list(await snapshots())

        add(a.path, 100)  # a change, so that there is a save
        with monkeypatch.context() as patch:
            patch.setattr(folder, "remember", remember_and_go_on)
            patch.setattr(folder.remote, "snapshots", remove_and_list)
            await held.save(silent)
        assert not (a.storage / "2.txt").exists()
        alive, there = await session(yard.machine("b", files=FILES))
        assert (alive, there) == ([1, 2, 100], [1, 2])


@pytest.mark.parametrize(
    "scene", ["files: save", "files: first save", "files: restore", "files: set aside", "files: turn back"]
)
async def test_a_process_that_dies_at_any_change_to_the_disk_loses_nothing(scene: str, in_memory: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        SCENES,
        scene,
        str(in_memory),
        env={"PYTHONPATH": str(Path(SCENES).parents[1])},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    assert child.returncode == 0, output.decode()
    assert int(output) > 5  # as many deaths were died
