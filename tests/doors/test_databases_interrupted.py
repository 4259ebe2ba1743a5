"""A save or a restore cut at any step, by the store or by a kill: nothing is lost, the next start is right."""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from fakes.machines import Machine, Yard
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed

SCENES = str(Path(__file__).parents[1] / "apps" / "service_scenes.py")


@pytest.fixture
async def yard(in_memory: Path) -> AsyncIterator[Yard]:
    async with Yard(in_memory) as made:
        yield made


# a save's calls: get current.json, list, upload, put current.json, list, delete
@pytest.mark.parametrize("nth", range(2, 10))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("times", [1, 100], ids=["once", "from then on"])
async def test_a_save_cut_at_any_call_loses_nothing(yard: Yard, nth: int, after: bool, times: int) -> None:
    await yard.machine("a", keep=1).session(1)
    yard.failing.fail(nth, times, after=after)
    failed = False
    try:
        await yard.machine("a", keep=1).session(2)
    except SaveFailed:
        failed = True
    yard.failing.mend()
    restarted = yard.machine("a", keep=1)
    assert await restarted.service.unsaved([restarted.tenant]) == ([restarted.tenant] if failed else [])
    assert await restarted.session(3) == [1, 2]
    assert await restarted.service.orphans(restarted.tenant) == []
    assert await yard.machine("b").session() == [1, 2, 3]
    assert len(yard.snapshots()) == 1


@pytest.mark.parametrize("nth", range(2, 6))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_a_first_save_cut_at_any_call_loses_nothing(yard: Yard, nth: int, after: bool) -> None:
    a = yard.machine("a")
    with pytest.raises(SaveFailed):
        await a.session(1, then=partial(yard.failing.fail, nth - 1, after=after))
    yard.failing.mend()
    assert await yard.machine("a").session(2) == [1]
    assert await yard.machine("b").session() == [1, 2]


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_a_restore_cut_at_any_call_changes_nothing(yard: Yard, nth: int, after: bool) -> None:
    await yard.machine("a").session(1)
    yard.failing.fail(nth, after=after)
    b = yard.machine("b")
    with pytest.raises(RestoreRefused):
        await b.session()
    assert [path.name for path in (yard.root / "b").iterdir()] == [".flyatc"]
    yard.failing.mend()
    assert await b.session() == [1]


async def test_publications_whose_responses_were_lost_are_recognised_as_our_own(yard: Yard) -> None:
    """The pointer was swapped, but neither the answer nor the reading back came through, again and again."""
    a = yard.machine("a", interval=0)
    await a.session(1)
    for number in (2, 3, 4):
        yard.failing.fail(5, after=True)
        with pytest.raises(SaveFailed):
            await a.session(number)
        yard.failing.mend()
    assert await a.session() == [1, 2, 3, 4]
    assert await yard.machine("b").session() == [1, 2, 3, 4]
    assert await a.service.orphans(a.tenant) == []


async def stopped_as_it_is_taken(machine: Machine) -> None:
    """Cancel a hold as soon as the record says that all is in use, before an app could start."""
    record = machine.tenant.data / ".flyatc" / "databases.json"

    def file() -> int | None:
        return record.stat().st_ino if record.exists() else None

    async def hold() -> None:
        async with machine.service.hold(machine.tenant):
            pytest.fail("it was cancelled too late")

    holding = tasks.start(hold(), "hold")
    for _ in range(2 if machine.tenant.app.files else 1):  # databases are recorded first
        before = file()
        while file() == before:
            await asyncio.sleep(0)
    assert b'"in_use": true' in record.read_bytes()
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding


@pytest.mark.parametrize("files", [(), ("storage",)], ids=["a database", "and files"])
async def test_a_tenant_stopped_before_its_app_starts_has_nothing_unsaved(yard: Yard, files: tuple[str, ...]) -> None:
    a, b = yard.machine("a", files=files), yard.machine("b", files=files)
    await stopped_as_it_is_taken(a)
    assert await a.service.unsaved([a.tenant]) == [], "it is new"

    def upload() -> None:
        a.storage.mkdir(exist_ok=True)
        (a.storage / "1.txt").write_text("file 1")

    await a.session(1, then=upload)
    for one, how in ((a, "its copy was kept"), (b, "it was restored")):
        await stopped_as_it_is_taken(one)
        assert await one.service.unsaved([one.tenant]) == [], how
        assert await one.session() == [1]
        assert await one.service.orphans(one.tenant) == []


async def test_what_was_unsaved_before_is_still_unsaved_after_such_a_stop(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    with pytest.raises(SaveFailed):
        await a.session(2, then=yard.failing.fail)
    yard.failing.mend()
    await stopped_as_it_is_taken(a)
    assert await a.service.unsaved([a.tenant]) == [a.tenant]
    assert await a.session() == [1, 2]
    assert await yard.machine("b").session() == [1, 2]


@pytest.mark.parametrize("scene", ["save", "first save", "restore", "set aside", "turn back"])
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
