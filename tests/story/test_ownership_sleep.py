"""A machine that is about to be suspended holds no lease, and what its clocks say afterwards gives it none."""

import asyncio

import pytest

from fakes.ownership_store import PATIENCE, FakeMachine, FakeStore, now
from flyatc.kit import tasks
from flyatc.ownership.errors import HeldElsewhere, OwnershipUnknown
from flyatc.ownership.record import session_key
from flyatc.ownership.rules import Terms

pytestmark = pytest.mark.looptime

SESSION = session_key("m1")
LONG = 600.0  # s; others have given it up by then


async def suspended(machine: FakeMachine, seconds: float) -> None:
    """Its clocks stand still meanwhile, and are not set afterwards."""
    await asyncio.sleep(seconds)
    machine.lost += seconds


async def test_after_a_sleep_a_lost_lease_is_noticed_although_no_clock_shows_it(store: FakeStore) -> None:
    machine, other = FakeMachine(store), FakeMachine(store, "m2")
    await machine.live()
    await machine.leave()
    await machine.keeper.rest()
    await suspended(machine, 5)
    owned = await other.live()
    assert owned.previous.clean
    await suspended(machine, LONG)
    assert await machine.keeper.slept()
    machine.keeper.wake()
    with pytest.raises(HeldElsewhere):
        await machine.live()
    assert owned.valid()


async def test_the_session_of_before_is_worth_nothing_after_it(store: FakeStore) -> None:
    """It would be valid for some seconds more by a clock that stood still; and others would break it meanwhile."""
    machine = FakeMachine(store)
    await machine.live()
    await machine.leave()
    await machine.keeper.rest()
    await suspended(machine, LONG)
    machine.keeper.wake()
    machine.link.calls.clear()
    owned = await machine.live(known=1)
    assert owned.valid()
    assert machine.link.made("put", SESSION), "it was renewed first"
    assert store.session("m1").broken is None
    assert (owned.epoch, owned.previous.clean, owned.last_writer(1)) == (1, True, True)


async def test_others_need_not_wait_for_a_machine_that_sleeps(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    await machine.leave()
    await machine.keeper.rest()
    assert store.session("m1").broken == "m1"
    began = now()
    await FakeMachine(store, "m1", run=2, earlier=False).live()
    assert now() - began < 1, "nor need a machine whose snapshot was lost"


async def test_no_user_is_acquired_before_it_wakes(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.keeper.rest()
    waits = tasks.start(machine.live(), "visitor")
    await asyncio.sleep(20)
    assert not waits.done()
    assert not await machine.keeper.slept(), "its clock goes as the store's does"
    machine.keeper.wake()
    assert (await waits).valid()


async def test_while_something_is_held_it_must_not_sleep(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    with pytest.raises(OwnershipUnknown, match="still has users"):
        await machine.keeper.rest()
    assert owned.valid()
    assert (await machine.live("v")).valid()


async def test_where_the_store_does_not_confirm_it_must_not_sleep_and_goes_on_by_a_new_session(
    store: FakeStore,
) -> None:
    machine = FakeMachine(store)
    await machine.live()
    await machine.leave()
    machine.link.lateness = 20
    machine.link.once("late", "put", SESSION)
    with pytest.raises(OwnershipUnknown, match="does not confirm"):
        await machine.keeper.rest()
    owned = await machine.live()
    await asyncio.sleep(100)
    assert owned.valid(), "the last words, which land late, end nothing"
    assert store.session("m1").broken is None


async def test_a_store_that_is_away_keeps_it_awake(store: FakeStore) -> None:
    machine = FakeMachine(store)
    machine.link.away()
    with pytest.raises(OwnershipUnknown):
        await machine.keeper.rest()
    machine.link.back()
    assert (await machine.live()).valid()


async def test_a_renewal_which_lands_late_in_place_of_the_last_words_is_no_farewell(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.lateness = 5
    machine.link.once("late", "put", SESSION)
    await asyncio.sleep(Terms().renew + PATIENCE + 0.3)
    await machine.leave()
    await asyncio.sleep(3)
    with pytest.raises(OwnershipUnknown, match="does not confirm"):
        await machine.keeper.rest()
    assert not await machine.keeper.slept()
    await machine.keeper.rest()
    assert store.session("m1").broken == "m1"
    machine.keeper.wake()
    assert (await machine.live(known=1)).valid()
