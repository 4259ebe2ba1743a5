"""A first save cut off between its upload and current.json, and the machine is lost with its disk."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import DATABASE, Machine, Yard, add, rows
from fakes.owners import FakeLease, previous
from fakes.streams import Streamers
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent

ADOPTED, NOT_COMPLETE = "an unpublished snapshot is adopted", "an unpublished snapshot is not complete"


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


def stolen(epoch: int, since: int = 0) -> FakeLease:
    return FakeLease(epoch, previous(epoch - 1, clean=False, since=since))


async def session(machine: Machine, owned: FakeLease, *numbers: int) -> list[int]:
    async with machine.service.hold(machine.tenant, owned):
        before = rows(machine.path)
        add(machine.path, *numbers)
    return before


async def cut(yard: Yard, machine: Machine, owned: FakeLease, *numbers: int, nth: int, after: bool = False) -> None:
    """The last save fails from its ``nth`` call on."""

    async def live() -> None:
        async with machine.service.hold(machine.tenant, owned):
            add(machine.path, *numbers)
            yard.failing.fail(nth, after=after)

    with pytest.raises(SaveFailed):
        await live()
    yard.failing.mend()


async def lost_before_its_pointer(yard: Yard, name: str, owned: FakeLease, *numbers: int) -> None:
    """Uploaded, not published, and the disk is gone."""
    await cut(yard, yard.machine(name), owned, *numbers, nth=4)
    shutil.rmtree(yard.root / name)


def pointer(yard: Yard) -> Path:
    return next((yard.root / "store").rglob("current.json"))


# a first save's calls: get current.json, list, upload, put current.json (and to read back: get)
@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_a_first_save_cut_at_any_call_leaves_what_was_uploaded_or_nothing(
    yard: Yard, nth: int, after: bool
) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    if nth == 5 or (nth == 4 and after):  # the pointer has landed
        await session(a, FakeLease(1), 1)
    else:
        await cut(yard, a, FakeLease(1), 1, nth=nth, after=after)
    shutil.rmtree(yard.root / "a")
    uploaded = len(yard.snapshots())
    assert await session(b, stolen(2), 2) == [1] * uploaded
    assert len(b.events(ADOPTED)) == (1 if uploaded and nth < 5 and not (nth == 4 and after) else 0)
    assert await session(yard.machine("c"), FakeLease(3)) == [1] * uploaded + [2]


async def test_of_several_saves_that_were_never_published_the_newest_counts(yard: Yard) -> None:
    a = yard.machine("a")
    await cut(yard, a, FakeLease(1), 1, nth=4)
    await cut(yard, a, stolen(2, since=1), 2, nth=4)
    shutil.rmtree(yard.root / "a")
    assert len(yard.snapshots()) == 2
    assert await session(yard.machine("b"), stolen(3)) == [1, 2]


@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_an_adoption_cut_at_any_call_is_made_good_by_the_next_machine(yard: Yard, nth: int, after: bool) -> None:
    """Its calls: get, put, list (the survey); list, download, get, put (the adoption)."""
    await lost_before_its_pointer(yard, "a", FakeLease(1), 1)
    b = yard.machine("b")
    yard.failing.fail(nth, after=after)
    try:
        async with b.service.hold(b.tenant, stolen(2)):
            yard.failing.mend()
            assert nth == 8
    except RestoreRefused:
        assert nth < 8
        assert not b.path.exists()
    yard.failing.mend()
    shutil.rmtree(yard.root / "b")
    assert await session(yard.machine("c"), stolen(3), 3) == [1]
    assert await session(yard.machine("d"), FakeLease(4)) == [1, 3]


@pytest.mark.parametrize("octets", [1, 4, 60])  # of the checksum, all of it, and more
async def test_where_no_upload_is_complete_it_begins_empty_and_says_so(yard: Yard, octets: int) -> None:
    await lost_before_its_pointer(yard, "a", FakeLease(1), 1)
    [packed] = yard.snapshots()
    packed.write_bytes(packed.read_bytes()[:-octets])
    b = yard.machine("b")
    assert await session(b, stolen(2), 2) == []
    assert b.events(NOT_COMPLETE)
    assert "no snapshot is complete" in str(b.events("the first save cannot be recovered")[0]["reason"])
    assert await session(yard.machine("c"), FakeLease(3)) == [2]


async def test_behind_a_damaged_upload_the_complete_one_before_it_is_adopted(yard: Yard) -> None:
    a = yard.machine("a")
    await cut(yard, a, FakeLease(1), 1, nth=4)
    await cut(yard, a, stolen(2, since=1), 2, nth=4)
    shutil.rmtree(yard.root / "a")
    yard.snapshots()[-1].write_bytes(b"half")
    b = yard.machine("b")
    assert await session(b, stolen(3)) == [1]
    assert [event["version"] for event in b.events(NOT_COMPLETE)] == ["000002-000000002"]


async def test_an_upload_that_cannot_be_fetched_now_is_no_reason_to_begin_empty(yard: Yard) -> None:
    await lost_before_its_pointer(yard, "a", FakeLease(1), 1)
    b = yard.machine("b")
    [packed] = yard.snapshots()
    kept = packed.read_bytes()

    class Vanishing(type(yard.failing)):  # type: ignore[misc]
        """Lists what it does not give."""

        async def download(self, key: str, path: Path, progress: object) -> None:
            packed.unlink(missing_ok=True)
            await super().download(key, path, progress)

    b = yard.machine("b", store=Vanishing(yard.store))
    with pytest.raises(RestoreRefused, match="try again later"):
        await session(b, stolen(2))
    packed.write_bytes(kept)
    assert await session(yard.machine("c"), stolen(3)) == [1]


async def test_a_pointer_that_was_deleted_by_hand_stays_refused_at_every_try(yard: Yard) -> None:
    await session(yard.machine("a"), FakeLease(1), 1)
    pointer(yard).unlink()
    for epoch in (2, 3):
        with pytest.raises(RestoreRefused, match=r"no current\.json"):
            await session(yard.machine(str(epoch)), FakeLease(epoch))


async def test_a_machine_that_comes_back_keeps_what_it_never_saved_unless_another_has_saved(yard: Yard) -> None:
    a = yard.machine("a")
    await cut(yard, a, FakeLease(1), 1, nth=4)
    assert await session(a, stolen(3)) == [1]


async def test_what_a_later_machine_uploaded_goes_before_what_was_never_saved_here(yard: Yard) -> None:
    a = yard.machine("a")
    await cut(yard, a, FakeLease(1), 1, nth=1)  # nothing of it was uploaded
    await lost_before_its_pointer(yard, "b", stolen(2), 2)
    assert await session(a, stolen(3)) == [2]
    orphans = await a.service.orphans(a.tenant)
    assert [rows(one / DATABASE) for one in orphans] == [[1]]


async def test_in_litestream_mode_it_is_adopted_as_well(yard: Yard, tmp_path: Path) -> None:
    """There the first save is a snapshot while the app is not in WAL mode, or fails while litestream has it."""
    await lost_before_its_pointer(yard, "a", FakeLease(1), 1)
    streamers = Streamers.on_folder(tmp_path)
    try:
        b = await streamers.machine("b")
        async with b.hold(stolen(2)):
            assert rows(b.path) == [1]
            add(b.path, 2, wal=True)
        assert "is complete" in str(b.events("restored")[0]["reason"])
        shutil.rmtree(tmp_path / "b")
        c = await streamers.machine("c")
        async with c.hold(stolen(3)) as held:
            assert rows(c.path) == [1, 2]
            add(c.path, 3, wal=True)
            await held.save(silent)
            assert streamers.ltx(), "streamed"
        shutil.rmtree(tmp_path / "c")
        d = await streamers.machine("d")
        async with d.hold(FakeLease(4)):
            assert rows(d.path) == [1, 2, 3]
    finally:
        await streamers.close()
