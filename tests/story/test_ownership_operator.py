"""``flyatc release`` and ``flyatc takeover``, without a daemon."""

import asyncio

import pytest

from fakes.ownership_store import FakeMachine, FakeStore, Link
from flyatc.ownership import operator_commands
from flyatc.ownership.errors import HeldElsewhere, OwnershipUnknown
from flyatc.ownership.record import State, Successor, owner_key, session_key
from flyatc.ownership.release_rules import Denied, Free, Settled
from flyatc.ownership.rules import Terms

pytestmark = pytest.mark.looptime

TERMS = Terms()
DEAD = TERMS.ttl + TERMS.grace


async def test_a_living_owner_is_not_released_behind_its_back(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    for free in (operator_commands.release, operator_commands.takeover):
        decision = await free(Link(store), "u", TERMS)
        assert isinstance(decision, Denied)
        assert "stop u there" in decision.reason
    assert owned.valid()
    assert store.owner().state is State.HELD


async def test_a_dead_owner_is_released_and_should_it_be_the_next_its_files_still_count(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.away()
    await asyncio.sleep(DEAD + 10)
    assert isinstance(await operator_commands.plan(Link(store), "u", TERMS, accept_loss=False), Free)
    assert store.owner().state is State.HELD
    assert isinstance(await operator_commands.release(Link(store), "u", TERMS), Free)
    assert store.owner().state is State.RELEASED
    assert store.session("m1").broken == operator_commands.OPERATOR
    machine.link.back()
    owned = await machine.live(known=1)
    assert (owned.epoch, owned.line_epoch, owned.previous.clean) == (2, 2, False)
    assert owned.previous.since <= 1


async def test_a_dirty_user_is_taken_over_only_if_the_loss_is_accepted(store: FakeStore) -> None:
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    (await one.live()).mark_dirty("the store was full")
    await one.leave()
    denied = await operator_commands.release(Link(store), "u", TERMS)
    assert isinstance(denied, Denied)
    assert "the store was full" in denied.reason
    with pytest.raises(HeldElsewhere):
        await other.live()
    freed = await operator_commands.takeover(Link(store), "u", TERMS)
    assert isinstance(freed, Free)
    assert "flyatc orphans" in freed.loses
    owned = await other.live()
    assert (owned.epoch, owned.line_epoch, owned.previous.line_epoch, owned.previous.clean) == (3, 3, 1, False)
    assert not owned.previous.since <= 1  # what m1 could not save does not count any more


async def test_a_vanished_session_is_given_its_time(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.away()
    store.delete(session_key("m1"))
    first = await operator_commands.release(Link(store), "u", TERMS)
    assert isinstance(first, Denied)
    await asyncio.sleep(DEAD)
    assert isinstance(await operator_commands.release(Link(store), "u", TERMS), Free)


async def test_when_the_store_does_not_respond_the_operator_gets_the_reason(store: FakeStore) -> None:
    machine = FakeMachine(store)
    (await machine.live()).mark_dirty("full")
    await machine.leave()
    link = Link(store)
    link.once("late", "put", owner_key("u"))
    with pytest.raises(OwnershipUnknown, match="is not released"):
        await operator_commands.takeover(link, "u", TERMS)
    assert isinstance(await operator_commands.release(Link(store), "v", TERMS), Denied)


async def test_a_user_released_to_a_machine_goes_there_and_nowhere_else(store: FakeStore) -> None:
    one, other, third = (FakeMachine(store, name) for name in ("m1", "m2", "m3"))
    await one.live()
    await one.leave()
    assert isinstance(await operator_commands.release(Link(store), "u", TERMS, "m2"), Free)
    assert isinstance(await operator_commands.release(Link(store), "u", TERMS, "m2"), Settled)
    for late in (one, third):
        with pytest.raises(HeldElsewhere, match="machine m2") as refused:
            await late.live(known=1)
        assert refused.value.machine == "app/m2"
    owned = await other.live()
    assert (owned.epoch, owned.line_epoch, owned.previous.clean) == (2, 1, True)
    assert store.owner().to is None
    assert isinstance(await operator_commands.release(Link(store), "u", TERMS, "m2"), Settled)
    await other.leave()
    await third.live()


async def test_a_release_to_a_machine_that_never_comes_is_not_waited_for(store: FakeStore) -> None:
    async def gone(user: str, successor: Successor) -> bool:
        return (user, successor.machine) == ("u", "m2")

    one, third = FakeMachine(store, "m1"), FakeMachine(store, "m3", successor_declines=gone)
    await one.live()
    await one.leave()
    await operator_commands.release(Link(store), "u", TERMS, "m2")
    with pytest.raises(HeldElsewhere):
        await one.live()
    assert (await third.live()).previous.clean


async def test_a_late_operator_command_does_not_undo_a_takeover(store: FakeStore) -> None:
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    await one.live()
    await one.leave()
    link = Link(store)
    link.once("late", "put", owner_key("u"))
    with pytest.raises(OwnershipUnknown):
        await operator_commands.release(link, "u", TERMS, "m3")
    owned = await other.live()
    await asyncio.sleep(link.lateness)
    assert owned.valid()
    assert store.owner().holder.machine == "m2"


# --- removed users ---


async def removed(store: FakeStore) -> Free | Denied | Settled:
    return await operator_commands.release(Link(store), "u", TERMS, remove=True)


async def test_no_machine_takes_a_removed_user_until_it_is_added_again(store: FakeStore) -> None:
    first, other, third = (FakeMachine(store, name) for name in ("m1", "m2", "m3"))
    await first.live()
    await first.leave()
    assert isinstance(await removed(store), Free)
    before = store.owner()
    for machine in (first, other, third):
        with pytest.raises(HeldElsewhere, match="flyatc users add u") as refused:
            await machine.live(known=1)
        assert refused.value.removed
    assert store.owner() == before, "nothing is written for a removed user"
    assert isinstance(await removed(store), Settled)
    assert isinstance(await operator_commands.release(Link(store), "u", TERMS), Denied)
    assert isinstance(await operator_commands.takeover(Link(store), "u", TERMS), Denied)
    assert store.owner() == before
    assert await operator_commands.add(Link(store), "u", TERMS)
    assert not await operator_commands.add(Link(store), "u", TERMS)
    owned = await other.live()
    assert (owned.epoch, owned.previous.epoch, owned.previous.clean) == (2, 1, True)


async def test_a_user_can_be_removed_before_any_machine_has_owned_it(store: FakeStore) -> None:
    assert isinstance(await removed(store), Free)
    machine = FakeMachine(store)
    with pytest.raises(HeldElsewhere, match="was removed"):
        await machine.live()
    assert await operator_commands.add(Link(store), "u", TERMS)
    assert (await machine.live()).epoch == 2


async def test_a_living_or_dirty_holder_is_not_removed_behind_its_back(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    assert isinstance(await removed(store), Denied)
    assert owned.valid()
    owned.mark_dirty("the disk is full")
    await machine.leave()
    assert isinstance(await removed(store), Denied), "what it could not save would be forgotten in silence"
    assert store.owner().state is State.DIRTY


async def test_what_a_dead_holder_of_a_removed_user_has_is_the_newest_once_it_is_added_again(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.away()
    await asyncio.sleep(DEAD + 10)
    assert isinstance(await removed(store), Free)
    machine.link.back()
    with pytest.raises(HeldElsewhere, match="was removed"):
        await machine.live(known=1)
    assert await operator_commands.add(Link(store), "u", TERMS)
    owned = await machine.live(known=1)
    assert owned.previous.since <= 1
    assert not owned.previous.clean


async def test_of_a_removal_and_a_take_at_once_one_wins(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    await machine.leave()
    taken, freed = await asyncio.gather(machine.live(), removed(store), return_exceptions=True)
    if store.owner().state is State.REMOVED:
        assert isinstance(taken, HeldElsewhere)
    else:
        assert not isinstance(taken, BaseException)
        assert isinstance(freed, OwnershipUnknown | Denied)
