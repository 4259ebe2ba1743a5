"""One user, several machines: the lease is acquired, kept, released."""

import asyncio

import msgspec
import pytest

from fakes.ownership_store import TRIP, FakeMachine, FakeStore, now
from flyatc.kit import tasks
from flyatc.ownership.errors import HeldElsewhere, OwnershipUnknown
from flyatc.ownership.record import State, owner_key, session_key
from flyatc.ownership.rules import Terms

pytestmark = pytest.mark.looptime

USER, SESSION = owner_key("u"), session_key("m1")
TERMS = Terms()
DEAD = TERMS.ttl + TERMS.grace


# --- taking ---


async def test_a_user_without_holder_is_acquired_with_epoch_one_in_three_round_trips(store: FakeStore) -> None:
    """T1: an empty bucket."""
    machine = FakeMachine(store)
    owned = await machine.live()
    assert (owned.epoch, owned.line_epoch, owned.previous.clean, owned.previous.epoch) == (1, 1, True, 0)
    assert owned.valid()
    assert store.owner().state is State.HELD
    assert store.owner().holder == machine.me.holder
    assert now() == pytest.approx(3 * TRIP)


async def test_with_a_living_session_it_takes_two_trips_and_with_a_stale_one_as_well(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    begun = now()
    await machine.live("v")
    assert now() - begun == pytest.approx(2 * TRIP)
    await machine.leave()
    await asyncio.sleep(100)
    begun = now()
    await machine.live()
    assert now() - begun == pytest.approx(2 * TRIP)  # the session is renewed beside the look


async def test_holds_of_one_user_share_one_take_and_the_last_gives_back(store: FakeStore) -> None:
    machine = FakeMachine(store)
    first, *others = await asyncio.gather(*(machine.live() for _ in range(20)))
    assert all(other is first for other in others)
    assert len(machine.link.made("put", USER)) == 1
    assert len(machine.link.made("put", SESSION)) == 1
    await machine.leave()
    assert len(machine.link.made("put", USER)) == 2
    assert store.owner().state is State.RELEASED
    assert not first.valid()


async def test_a_waiter_that_leaves_does_not_stop_the_acquisition_for_the_others(store: FakeStore) -> None:
    machine = FakeMachine(store)

    async def hold() -> None:
        async with machine.keeper.hold("u"):
            pass

    waiting = tasks.start(hold(), "impatient")
    await asyncio.sleep(TRIP / 2)
    other = tasks.start(machine.live(), "patient")
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await other).valid()
    assert len(machine.link.made("put", USER)) == 1


async def test_a_lease_without_waiters_is_given_back(store: FakeStore) -> None:
    machine = FakeMachine(store)

    async def hold() -> None:
        async with machine.keeper.hold("u"):
            raise AssertionError

    waiting = tasks.start(hold(), "impatient")
    await asyncio.sleep(TRIP / 2)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert store.owner().state is State.RELEASED


async def test_of_two_machines_at_once_one_holds_the_lease_and_the_other_learns_the_holder(store: FakeStore) -> None:
    """T10, navigator D17."""
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    answers = await asyncio.gather(one.live(), other.live(), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, HeldElsewhere)]
    assert len(refused) == 1
    assert refused[0].owner == store.owner().holder
    assert not refused[0].dirty
    assert store.owner().epoch == 1


async def test_what_was_released_is_taken_by_another_at_once_and_its_line_goes_on(store: FakeStore) -> None:
    """T29, and navigator D5."""
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    await one.live()
    await one.leave()
    owned = await other.live(known=0)
    assert (owned.epoch, owned.line_epoch) == (2, 1)
    assert owned.previous.clean
    assert owned.previous.epoch == 1
    assert store.owner().data.since == 2  # what m1 has on its disk does not count any more


async def test_acquiring_again_what_it_released_keeps_the_epoch(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    await machine.leave()
    owned = await machine.live(known=1)
    assert (owned.epoch, owned.line_epoch, owned.previous.clean) == (1, 1, True)


async def test_a_killed_daemon_is_succeeded_at_once_on_the_same_disk(store: FakeStore) -> None:
    """T8: no wait for the session's end, the local files are the truth."""
    killed = FakeMachine(store)
    await killed.live()
    killed.link.away()
    owned = await FakeMachine(store, run=2).live(known=1)
    assert now() < 1
    assert (owned.epoch, owned.line_epoch) == (2, 1)
    assert (owned.previous.epoch, owned.previous.clean, owned.previous.since) == (1, False, 1)


async def test_a_daemon_killed_again_before_it_wrote_its_epoch_down_still_has_the_truth(store: FakeStore) -> None:
    FakeMachine(store)
    for run in (1, 2, 3):
        machine = FakeMachine(store, run=run)
        owned = await machine.live(known=1 if run > 1 else 0)
        machine.link.away()
    assert owned.epoch == 3
    assert owned.previous.since <= 1 <= owned.previous.epoch


async def test_a_wiped_machine_begins_a_new_line(store: FakeStore) -> None:
    killed = FakeMachine(store)
    await killed.live()
    killed.link.away()
    machine = FakeMachine(store, run=2)
    owned = await machine.live(known=0)
    assert (owned.epoch, owned.line_epoch, owned.previous.line_epoch) == (2, 2, 1)
    assert "is gone" in machine.log_lines()


async def test_after_another_machine_had_it_the_local_files_are_old(store: FakeStore) -> None:
    """T9, navigator D4."""
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    for machine, known in ((one, 0), (other, 0)):
        await machine.live(known=known)
        await machine.leave()
    owned = await one.live(known=1)
    assert owned.previous.since == 2


async def test_two_daemons_which_call_themselves_the_same_machine_exclude_each_other(store: FakeStore) -> None:
    await FakeMachine(store).live()
    twin = FakeMachine(store, run=2, earlier=False)
    with pytest.raises(OwnershipUnknown, match="another flyatc"):
        await twin.live("v")
    assert store.session("m1").boot == "m1.1"


# --- a dead holder ---


async def test_a_silent_holder_is_succeeded_after_its_time_and_learns_of_it(store: FakeStore) -> None:
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    mine = await one.live()
    one.link.away()
    while now() < DEAD - 0.5:
        with pytest.raises(HeldElsewhere):
            await other.live()
        await asyncio.sleep(1)
    assert mine.ended.is_set()
    assert not mine.lost
    await asyncio.sleep(1)
    begun = now()
    owned = await other.live()
    assert now() - begun == pytest.approx(5 * TRIP)
    assert (owned.epoch, owned.line_epoch) == (2, 2)
    assert (owned.previous.epoch, owned.previous.clean, owned.previous.line_epoch) == (1, False, 1)
    assert store.session("m1").broken == "m2"
    one.link.back()
    with pytest.raises(HeldElsewhere) as refused:
        await one.live(known=1)
    assert refused.value.owner.machine == "m2"
    assert mine.lost


@pytest.mark.parametrize("ahead", [60.0, 3600.0])
async def test_no_machine_is_taken_for_dead_by_a_clock_by_which_all_are(store: FakeStore, ahead: float) -> None:
    """A proxy before the store, with a clock of its own, begins to set the Date."""
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    mine = await one.live()
    store.ahead = ahead
    with pytest.raises(OwnershipUnknown, match="do not agree"):
        await other.live()
    assert store.session("m1").broken is None
    assert mine.valid()
    store.ahead = 0.0
    with pytest.raises(HeldElsewhere):
        await other.live()


async def test_all_users_of_a_dead_machine_are_succeeded_at_once(store: FakeStore) -> None:
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    users = [f"u{number}" for number in range(30)]
    await asyncio.gather(*(one.live(user) for user in users))
    one.link.away()
    await asyncio.sleep(DEAD + 10)
    owned = await asyncio.gather(*(other.live(user) for user in users))
    assert all(each.valid() and each.epoch == 2 for each in owned)


async def test_a_machine_with_a_broken_session_loses_all_users_at_its_next_renewal_and_may_begin_anew(
    store: FakeStore,
) -> None:
    machine = FakeMachine(store)
    owned = await asyncio.gather(*(machine.live(user) for user in ("u", "v", "w")))
    broken = msgspec.structs.replace(store.session("m1"), broken="m2", nonce="x")
    store.write(SESSION, msgspec.json.encode(broken))
    await asyncio.sleep(TERMS.renew + 0.1)
    assert all(one.ended.is_set() and one.lost for one in owned)
    again = await machine.live(known=1)
    assert again.valid()
    assert (again.epoch, again.previous.clean) == (2, False)


async def test_a_holder_whose_session_vanished_has_its_time_before_it_is_succeeded(store: FakeStore) -> None:
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    mine = await one.live()
    one.link.away()
    store.delete(SESSION)
    with pytest.raises(HeldElsewhere):
        await other.live()
    vanished = now()
    await asyncio.sleep(DEAD - 1)
    with pytest.raises(HeldElsewhere):
        await other.live()
    assert not mine.valid()
    await asyncio.sleep(vanished + DEAD - now())
    assert (await other.live()).epoch == 2


async def test_a_session_that_vanished_is_lost_and_begun_anew(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    store.delete(SESSION)
    await asyncio.sleep(TERMS.renew + 0.1)
    assert owned.lost
    assert "vanished" in owned.why
    assert (await machine.live(known=1)).epoch == 2


# --- giving back ---


async def test_no_app_writes_any_more_while_the_release_is_on_its_way(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    leaving = tasks.start(machine.leave(), "leave")
    await asyncio.sleep(TRIP / 2)
    assert store.owner().state is State.HELD
    assert not owned.valid()
    await leaving


async def test_a_request_during_a_release_waits_and_acquires_the_lease_anew(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    leaving = tasks.start(machine.leave(), "leave")
    await asyncio.sleep(TRIP / 2)
    owned = await machine.live(known=1)
    assert owned.valid()
    assert store.owner().state is State.HELD
    await leaving
    assert owned.valid()


async def test_what_could_not_be_saved_waits_for_its_machine(store: FakeStore) -> None:
    """Navigator D6. ``dirty``: no one else starts from older data in silence."""
    one, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    (await one.live()).mark_dirty("the disk of the store is full", "u/a")
    await one.leave()
    await asyncio.sleep(10 * DEAD)
    with pytest.raises(HeldElsewhere, match=r"m1 .* \(the disk .*takeover u") as refused:
        await other.live()
    assert refused.value.dirty
    owned = await one.live(known=1)
    assert (owned.epoch, owned.previous.clean, owned.line_epoch) == (2, False, 1)


async def test_what_was_saved_after_all_is_not_dirty(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    owned.mark_dirty("away", "u/a")
    owned.mark_saved("u/a")
    await machine.leave()
    assert store.owner().state is State.RELEASED


async def test_a_lost_response_to_released_is_read_back(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.once("deaf", "put", USER)
    await machine.leave()
    assert store.owner().state is State.RELEASED
    assert "not released" not in machine.log_lines()


async def test_a_record_deleted_by_hand_is_noticed_and_the_epoch_goes_on(store: FakeStore) -> None:
    """T15."""
    machine = FakeMachine(store)
    await machine.live(known=6)
    store.delete(USER)
    await machine.leave()
    assert "not released" in machine.log_lines()
    assert (await machine.live(known=7)).epoch == 8


async def test_data_which_know_a_higher_epoch_raise_the_record(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    await owned.raise_epoch(16)
    assert (owned.epoch, owned.line_epoch, store.owner().epoch) == (17, 17, 17)
    assert owned.valid()
    await owned.raise_epoch(5)
    assert owned.epoch == 17
    assert (await machine.live(known=20)).epoch == 21


async def test_what_cannot_be_raised_is_lost(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.once("late", "put", USER)
    with pytest.raises(OwnershipUnknown):
        await owned.raise_epoch(16)
    assert owned.lost
    assert not owned.valid()


# --- unknown ---


@pytest.mark.parametrize("body", [b"", b"{", b'{"v": 1}', b'{"v": 2, "epoch": 9}', b"\xff\xfe"])
@pytest.mark.parametrize("key", [USER, SESSION])
async def test_what_cannot_be_read_is_refused_and_left_as_it_is(store: FakeStore, key: str, body: bytes) -> None:
    """navigator D1."""
    store.write(key, body)
    with pytest.raises(OwnershipUnknown, match=r"newer flyatc|cannot be understood"):
        await FakeMachine(store).live()
    assert store.body(key) == body


async def test_while_the_store_is_away_nothing_is_owned_and_nothing_written(store: FakeStore) -> None:
    """T6: bucket missing, or refused."""
    machine = FakeMachine(store)
    machine.link.away()
    with pytest.raises(OwnershipUnknown, match="does not answer"):
        await machine.live()
    assert machine.link.made("put", USER) == []
    machine.link.back()
    assert (await machine.live()).epoch == 1


async def test_a_read_that_fails_once_is_tried_again_and_the_user_is_acquired(store: FakeStore) -> None:
    machine = FakeMachine(store)
    machine.link.once("lost", "look", USER)
    assert (await machine.live()).valid()
    assert len(machine.link.made("look", USER)) == 2


async def test_a_take_whose_answer_is_lost_is_read_back(store: FakeStore) -> None:
    machine = FakeMachine(store)
    machine.link.once("deaf", "put", USER)
    assert (await machine.live()).valid()
    assert len(machine.link.made("put", USER)) == 1


async def test_a_take_that_lands_late_is_not_ours_until_it_is_taken_again(store: FakeStore) -> None:
    machine = FakeMachine(store)
    machine.link.once("late", "put", USER)
    with pytest.raises(OwnershipUnknown):
        await machine.live()
    await asyncio.sleep(70)
    assert store.owner().epoch == 1
    assert (await machine.live()).epoch == 2


# --- users for which nothing was ever written ---


async def traceless(machine: FakeMachine, known: int = 0) -> None:
    (await machine.live(known=known)).traceless = True


async def test_a_user_without_any_write_leaves_no_record(store: FakeStore) -> None:
    machine, other = FakeMachine(store), FakeMachine(store, "m2")
    for one in (machine, other, machine):
        await traceless(one)
        await one.leave()
        assert store.look(owner_key("u")) is None
    assert (await other.live()).epoch == 1


async def test_a_record_that_another_machine_has_written_meanwhile_is_not_deleted(store: FakeStore) -> None:
    machine, other = FakeMachine(store), FakeMachine(store, "m2")
    await traceless(machine)
    machine.link.away()
    await asyncio.sleep(60)
    owned = await other.live()
    machine.link.back()
    await machine.leave()
    await asyncio.sleep(5)
    assert owned.valid()
    assert store.owner().holder.machine == "m2"


async def test_a_deletion_that_lands_late_deletes_nothing(store: FakeStore) -> None:
    machine, other = FakeMachine(store), FakeMachine(store, "m2")
    await traceless(machine)
    machine.link.once("late", "delete", owner_key("u"))
    await machine.leave()
    owned = await machine.live()
    await asyncio.sleep(machine.link.lateness + 1)
    assert owned.valid()
    assert store.owner().holder.machine == "m1"
    assert isinstance(other, FakeMachine)


async def test_a_request_before_the_end_of_a_removal_keeps_the_record(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await traceless(machine)
    second = await machine.live()
    await machine.leave()
    assert store.owner().state is State.RELEASED, "the second visit may have written"
    assert second.ended.is_set()


async def test_a_user_that_another_machine_has_held_is_released_as_ever(store: FakeStore) -> None:
    machine, other = FakeMachine(store), FakeMachine(store, "m2")
    await machine.live()
    await machine.leave()
    await traceless(other)
    await other.leave()
    assert store.owner().state is State.RELEASED


async def test_whether_a_user_may_be_forgotten_is_void_as_soon_as_another_tenant_has_come(store: FakeStore) -> None:
    machine = FakeMachine(store)
    keeper = machine.keeper
    assert keeper.may_forget("u") is None, "it is not held"
    async with keeper.hold("u"):
        alone = keeper.may_forget("u")
        assert alone is not None
        async with keeper.hold("u"):
            assert keeper.may_forget("u") is None
        assert keeper.may_forget("u") != alone, "that one may have written"
