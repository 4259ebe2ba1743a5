"""A stop in litestream mode: cut at any step; what it leaves; and which of the two copies the next machine takes."""

import asyncio

import pytest
from msgspec import structs

from fakes.owners import FakeLease, previous
from fakes.streams import Streamer, Streamers, Writer, after
from flyatc.databases.litestream import database_stream, final_save, verify_replica
from flyatc.databases.manifest import Position
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent

FIRST = previous(0, clean=True)


# --- a stop that is cut short ---


# the calls of a stop: head, list, get current.json, list, upload, put current.json, list
@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("after_it", [False, True], ids=["before it is done", "after it is done"])
async def test_a_stop_cut_at_any_call_loses_nothing_whether_the_machine_is_lost_or_goes_on(
    machines: Streamers, nth: int, after_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_stream, "ANSWER", 1.0)
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    await a.session(one, 1)
    two, failed = after(one), False
    try:
        async with a.hold(two) as held:
            app = Writer(a.path)
            app.add(2)
            await held.save(silent)
            app.close()
            a.failing.fail(nth, after=after_it)
    except SaveFailed:
        failed = True
    assert failed == bool(two.dirty)
    a.failing.mend()
    if after_it:
        assert await (await machines.machine("b")).session(after(two, clean=not failed)) == [1, 2], "a is lost"
        return
    assert await a.session(FakeLease(3, previous(2, clean=not failed), line=1), 3) == [1, 2], "a goes on"
    assert a.events("the local copy was set aside") == []
    assert await (await machines.machine("b")).session(FakeLease(4, previous(3, clean=True), line=1)) == [1, 2, 3]


async def test_a_proof_for_which_there_is_no_time_saves_nothing(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, one, begun = await machines.machine("a"), FakeLease(1, FIRST), asyncio.Event()

    async def prove(*args: object) -> verify_replica.Proven:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(verify_replica, "prove", prove)
    session = tasks.start(a.session(one, 1), "session")
    async with asyncio.timeout(20):
        await begun.wait()
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session
    assert "no time to verify" in one.dirty
    monkeypatch.undo()
    assert await a.session(after(one, clean=False), 2) == [1], "the local copy is kept, and goes on"


@pytest.mark.parametrize("attached", [False, True])
async def test_a_tenant_stopped_before_its_app_starts_has_nothing_unsaved(machines: Streamers, attached: bool) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    await a.session(one, 1)
    b, lease = await machines.machine("b"), one
    for machine, how in ((a, "its copy was kept"), (b, "it was restored")):
        lease = after(lease)
        await _stopped_as_it_is_taken(machine, lease, attached=attached)
        assert not (await machine.prepared()).in_use, how
        lease = after(lease)
        assert await machine.session(lease) == [1]
        assert machine.events("the local copy was set aside") == []


async def _stopped_as_it_is_taken(machine: Streamer, lease: FakeLease, *, attached: bool) -> None:
    """Cancel a hold before an app could start: as soon as it is on record, or as litestream has the database."""
    record = machine.tenant.data / ".flyatc" / "databases.json"

    async def hold() -> None:
        async with machine.hold(lease):
            pytest.fail("it was cancelled too late")

    def file() -> int | None:
        return record.stat().st_ino if record.exists() else None

    before, holding = file(), tasks.start(hold(), "hold")
    while file() == before or (attached and not machine.door.engine.holds(machine.path)):
        await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding


# --- which of the two copies ---


async def test_a_damaged_snapshot_gives_way_to_the_stream_which_has_the_same(machines: Streamers) -> None:
    a, b, one = await machines.machine("a"), await machines.machine("b"), FakeLease(1, FIRST)
    await a.session(one, 1, 2)
    (snapshot,) = machines.stored().glob("*.zst")
    snapshot.write_bytes(snapshot.read_bytes()[:-20])
    assert await b.session(after(one)) == [1, 2]
    (reported,) = b.events("a snapshot is damaged: its stream, which has the same, is restored")
    assert reported["level"] == "error"


async def test_a_damaged_stream_does_no_harm_where_the_snapshot_has_the_same(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_stream, "ANSWER", 1.0)
    a, b, one = await machines.machine("a"), await machines.machine("b"), FakeLease(1, FIRST)
    await a.session(one, 1, 2)
    for file in machines.ltx():
        file.write_bytes(file.read_bytes()[:-20])
    assert await b.session(after(one), 3) == [1, 2]
    assert await (await machines.machine("c")).session(after(after(one))) == [1, 2, 3]


async def test_a_stream_that_is_newer_than_the_snapshot_is_restored(machines: Streamers) -> None:
    a, b, one = await machines.machine("a"), await machines.machine("b"), FakeLease(1, FIRST)
    await a.session(one, 1)
    two = after(one)
    await a.cut(two, 2)
    assert await b.session(after(two, clean=False)) == [1, 2]
    (restored,) = b.events("restored")
    assert "which is later than the snapshot 000001-000000001" in str(restored["reason"])


async def test_a_stop_without_changes_leaves_no_snapshot_and_asks_the_store_nothing_new(machines: Streamers) -> None:
    a, one = await machines.machine("a"), FakeLease(1, FIRST)
    await a.session(one, 1)
    before = sorted(machines.stored().rglob("*"))
    async with a.hold(after(one)):
        pass
    assert sorted(machines.stored().rglob("*")) == before
    assert len(a.events("saved")) == 1


async def test_a_large_database_is_proven_as_well_and_leaves_a_snapshot_now_and_then(
    machines: Streamers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final_save, "LARGE_SNAPSHOT_EACH", 2)
    a = await machines.machine("a", storage=structs.replace(machines.storage, large=1))
    owned = FakeLease(1, FIRST)
    counts = []
    for number in range(4):
        await a.session(owned, number)
        owned = after(owned)
        counts.append(len(list(machines.stored().glob("*.zst"))))
    assert counts == [0, 1, 1, 2]
    assert len(a.events("saved")) == 4
    assert await (await machines.machine("b")).session(owned) == [0, 1, 2, 3]


def test_a_later_position_has_all_that_an_earlier_one_has() -> None:
    ordered = [Position(5, 0, 9), Position(5, 1, 1), Position(5, 1, 2), Position(6, 0, 1)]
    assert sorted(reversed(ordered)) == ordered
    assert [str(one) for one in ordered] == ["e000005:9", "e000005-01:1", "e000005-01:2", "e000006:1"]
