"""One session for all users of a machine: renewed, in doubt, expired, resumed, lost; whatever the store does."""

import asyncio
import math
from itertools import pairwise

import pytest

from fakes.ownership_store import TRIP, FakeMachine, FakeStore, now
from flyatc.kit import tasks
from flyatc.ownership.errors import HeldElsewhere, OwnershipUnknown
from flyatc.ownership.record import owner_key, session_key
from flyatc.ownership.rules import KILL, Terms

pytestmark = pytest.mark.looptime

USER, SESSION = owner_key("u"), session_key("m1")
TERMS = Terms()


async def test_a_hundred_users_cost_one_put_each_third_of_the_ttl(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await asyncio.gather(*(machine.live(f"u{number}") for number in range(100)))
    machine.link.calls.clear()
    begun = now()
    await asyncio.sleep(300)
    assert len(machine.link.calls) == len(machine.link.made("put", SESSION)) == 30
    assert now() - begun == 300


async def test_while_nothing_is_owned_nothing_is_renewed(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    await machine.leave()
    machine.link.calls.clear()
    await asyncio.sleep(3600)
    assert machine.link.calls == []
    assert (await machine.live()).valid()


async def test_short_troubles_of_the_store_are_not_even_noticed(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    for _ in range(10):
        await asyncio.sleep(20)
        machine.link.away()
        await asyncio.sleep(8)
        machine.link.back()
        await asyncio.sleep(5)
        assert owned.valid()
    assert not owned.doubted.is_set()


async def test_when_the_store_is_away_requests_are_held_then_the_apps_are_ended(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.away()
    sent = machine.link.made("put", SESSION)[0]
    await owned.doubted.wait()
    assert now() - sent == pytest.approx(TERMS.valid - TERMS.doubt)
    assert owned.valid()
    await owned.ended.wait()
    assert now() - sent == pytest.approx(TERMS.valid)
    assert not owned.valid()
    assert not owned.lost
    assert "does not answer" in owned.why


async def test_doubt_ends_when_the_store_answers_again(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.away()
    await owned.doubted.wait()
    machine.link.back()
    await asyncio.sleep(4.5)
    assert not owned.doubted.is_set()
    assert owned.valid()
    await asyncio.sleep(100)
    assert owned.valid()


async def test_an_expired_lease_is_resumed_on_the_same_epoch_if_no_machine_took_it(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.away()
    await owned.ended.wait()
    await asyncio.sleep(500)
    with pytest.raises(OwnershipUnknown):
        await machine.live()
    machine.link.back()
    machine.link.calls.clear()
    again = await machine.live(known=1)
    assert again is not owned
    assert again.valid()
    assert not again.doubted.is_set()
    assert (again.epoch, again.line_epoch) == (1, 1)
    assert (again.previous.epoch, again.previous.clean, again.previous.since) == (1, False, 1)
    assert machine.link.made("put", USER) == []


async def test_a_renewal_whose_answer_is_lost_counts_from_when_it_was_sent(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.once("deaf", "put", SESSION)
    await asyncio.sleep(TERMS.renew + 4)
    sent = machine.link.made("put", SESSION)[-1]
    machine.link.away()
    await owned.ended.wait()
    assert now() - sent == pytest.approx(TERMS.valid)


async def test_a_refusal_for_our_own_late_renewal_is_no_loss(store: FakeStore) -> None:
    """A 412 which we have caused ourselves: the put that we gave up has landed after all."""
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.lateness = 3.5  # after it was read back, before the next try
    machine.link.once("late", "put", SESSION)
    await asyncio.sleep(100)
    assert owned.valid()
    assert not owned.doubted.is_set()
    assert "lost" not in machine.log_lines()


async def test_a_renewal_that_lands_behind_the_next_one_changes_nothing(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.lateness = 20
    machine.link.once("late", "put", SESSION)
    await asyncio.sleep(100)
    assert owned.valid()


async def test_after_the_machine_slept_nothing_is_valid_until_the_store_has_confirmed_it(store: FakeStore) -> None:
    """fly §5.4: a resumed holder asks before it writes."""
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.skew = 600
    assert not owned.valid()
    assert owned.doubted.is_set()
    await asyncio.sleep(2 * TRIP)
    assert owned.valid()
    assert not owned.doubted.is_set()
    assert len(machine.link.made("put", SESSION)) == 2


async def test_a_jump_of_the_clock_is_seen_within_a_second_without_any_request(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.skew = -7200
    await asyncio.wait_for(owned.doubted.wait(), 1.1)


async def test_a_machine_that_slept_and_finds_the_store_away_ends_soon(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.away()
    machine.skew = 600
    begun = now()
    await owned.ended.wait()
    assert now() - begun < TERMS.doubt + 1.1


async def test_a_response_from_before_the_sleep_confirms_nothing(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.trip = 2.0
    await asyncio.sleep(TERMS.renew + 1)  # a renewal is on its way
    machine.skew = 600
    await asyncio.sleep(1.5)
    assert not owned.valid()
    await asyncio.sleep(2.5)
    assert owned.valid()


async def test_a_clock_that_is_hours_wrong_but_runs_is_of_no_consequence(store: FakeStore) -> None:
    one, other = FakeMachine(store, "m1", rate=1.01), FakeMachine(store, "m2", rate=0.99)
    other.skew = 9000
    owned = [await one.live("u"), await other.live("v")]
    await asyncio.sleep(300)
    assert all(each.valid() for each in owned)


async def test_many_slow_takes_do_not_delay_a_renewal(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.trip = 2.9
    machine.link.calls.clear()
    takes = [tasks.start(machine.live(f"u{number}"), "take") for number in range(30)]
    await asyncio.gather(*takes)
    sent = machine.link.made("put", SESSION)
    assert now() > 50
    assert max(after - before for before, after in pairwise(sent)) < TERMS.renew + 3


async def test_a_closed_machine_is_not_waited_for(store: FakeStore) -> None:
    """Its ``released`` was lost on the way; all is in the store."""
    machine, other = FakeMachine(store, "m1"), FakeMachine(store, "m2")
    await machine.live()
    machine.link.once("lost", "put", USER)
    await machine.leave()
    await machine.keeper.close()
    assert store.session("m1").broken == "m1"
    assert (await other.live()).epoch == 2
    assert (await FakeMachine(store, run=2).live("v")).valid()


async def test_a_machine_that_leaves_something_unsaved_is_given_its_time_to_come_back(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    machine.link.away()
    await owned.ended.wait()
    await asyncio.sleep(1)
    machine.link.back()
    await machine.keeper.close()
    assert store.session("m1").broken is None
    again = await FakeMachine(store, run=2).live(known=1)
    assert again.previous.since <= 1 <= again.previous.epoch


async def test_a_session_that_ends_while_an_app_runs_is_not_recorded_as_ended(store: FakeStore) -> None:
    machine = FakeMachine(store)
    owned = await machine.live()
    await machine.keeper.close()
    assert not owned.valid()
    assert store.session("m1").broken is None


async def test_a_machine_without_leases_writes_nothing_at_its_end(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.keeper.close()
    assert machine.link.calls == []


# --- what the supervisor of the apps receives ---


async def test_the_supervisor_knows_the_deadline_before_anything_is_owned_and_each_renewal_moves_it(
    store: FakeStore,
) -> None:
    machine = FakeMachine(store)
    begun = machine.boottime()
    await machine.live()
    assert machine.kill_at == [begun + TRIP + TERMS.valid], "reckoned from before the put was sent, after a look"
    await asyncio.sleep(3 * TERMS.renew + 1)
    assert len(machine.kill_at) == 4
    assert all(later - sooner == pytest.approx(TERMS.renew) for sooner, later in pairwise(machine.kill_at))


async def test_the_supervisor_kills_before_another_machine_may_hold_the_user(store: FakeStore) -> None:
    silent, other = FakeMachine(store), FakeMachine(store, "m2")
    await silent.live()
    silent.link.away()
    while True:
        try:
            await other.live()
            break
        except (HeldElsewhere, OwnershipUnknown):
            await asyncio.sleep(0.5)
    assert other.boottime() > silent.kill_at[-1] + KILL


async def test_a_renewal_that_is_not_confirmed_moves_no_deadline(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    reported = list(machine.kill_at)
    machine.link.away()
    await asyncio.sleep(TERMS.ttl + TERMS.grace)
    assert machine.kill_at == reported


async def test_a_lost_session_kills_at_once(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    store.write(SESSION, store.body(SESSION).replace(b'"seq":1', b'"seq":9').replace(b'"nonce":"', b'"nonce":"x'))
    await asyncio.sleep(TERMS.renew + 5)
    assert machine.kill_at[-1] == -math.inf


async def test_a_clock_that_has_stood_still_brings_the_deadline_near(store: FakeStore) -> None:
    machine = FakeMachine(store)
    await machine.live()
    machine.link.away()
    machine.skew = 600
    await asyncio.sleep(2)
    assert machine.kill_at[-1] <= machine.boottime() + TERMS.doubt
