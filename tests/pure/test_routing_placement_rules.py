"""Where a user is served: the steps, one by one."""

import msgspec
import pytest
from msgspec import structs

from flyatc.config.schema import Pin
from flyatc.fly import dns_answers
from flyatc.fly.environment import Machine
from flyatc.ownership.record import Data, Holder, Owner, State, Successor
from flyatc.routing.placement_rules import Here, Last, Nowhere, Place, There, absent, named, pinned, recorded, unowned
from flyatc.routing.replay import Target
from flyatc.routing.replay_cache import LATE, MEMORY, MOST, PATIENCE, ReplayFailures

ME = Machine("shop", "148e21dad76789", "bos")
OTHER = "3d8dd15c1ed778"
THERE = Target("shop", id=OTHER)


def owner(state: State, machine: str = OTHER, app: str = "shop", region: str = "iad") -> Owner:
    holder = Holder(app=app, machine=machine, region=region, boot="b")
    return Owner(epoch=3, state=state, holder=holder, nonce="n", ttl=30.0, data=Data(line=1, since=1))


def where(place: Place | None) -> object:
    return place.target if isinstance(place, There) else type(place)


def test_a_pin_sends_away_from_every_other_machine_and_region() -> None:
    assert pinned(ME, None) is None
    assert where(pinned(ME, Pin(machine=OTHER))) == THERE
    assert where(pinned(ME, Pin(machine=ME.id))) is Here
    assert where(pinned(ME, Pin(region="iad"))) == Target("shop", region="iad")
    assert pinned(ME, Pin(region="bos")) is None, "another machine of the region may have the user"


def test_a_name_sends_to_the_machine_which_runs_and_what_is_not_known_sends_nowhere() -> None:
    assert where(named(ME, dns_answers.Found(OTHER, "", 0))) == THERE
    assert where(named(ME, dns_answers.Found(ME.id, "", 0))) is Here
    assert named(ME, dns_answers.Absent("")) is None
    assert named(ME, dns_answers.Unknown("")) is None


@pytest.mark.parametrize("state", State)
def test_the_last_holder_is_woken_and_keeps_its_lease(state: State) -> None:
    assert where(recorded(ME, owner(state), Last.EXPECTED, None)) == THERE
    assert where(recorded(ME, owner(state, ME.id), Last.EXPECTED, None)) is Here


def test_a_user_released_to_a_machine_is_sent_there_from_everywhere_and_from_the_last_holder() -> None:
    to_us = msgspec.structs.replace(owner(State.RELEASED), to=Successor("shop", ME.id))
    to_other = msgspec.structs.replace(owner(State.RELEASED, ME.id), to=Successor("shop", OTHER))
    assert where(recorded(ME, to_us, Last.EXPECTED, None)) is Here
    for pin in (None, Pin(region="bos")):
        assert where(recorded(ME, to_other, Last.EXPECTED, pin)) == THERE
    for last in (Last.GONE, Last.DEAD):
        assert where(recorded(ME, to_other, last, None)) is Here


def test_a_last_holder_that_is_gone_dead_or_outside_fly_is_not_waited_for() -> None:
    assert recorded(ME, None, Last.EXPECTED, None) is None
    assert where(recorded(ME, owner(State.HELD), Last.GONE, None)) is Here
    assert where(recorded(ME, owner(State.HELD), Last.DEAD, None)) is Here
    assert where(recorded(ME, owner(State.HELD, "local-0123456789ab", "local"), Last.EXPECTED, None)) is Here


def test_a_user_that_an_operator_released_is_not_sent_to_the_dead_holder() -> None:
    freed = structs.replace(owner(State.RELEASED), data=Data(line=1, since=1, fence=True))
    assert where(recorded(ME, freed, Last.EXPECTED, None)) is Here


def test_a_pin_to_another_region_moves_only_released_users() -> None:
    pin = Pin(region="bos")
    assert where(recorded(ME, owner(State.RELEASED), Last.EXPECTED, pin)) is Here
    assert where(recorded(ME, owner(State.RELEASED, region="bos"), Last.EXPECTED, pin)) == THERE
    assert where(recorded(ME, owner(State.HELD), Last.EXPECTED, pin)) == THERE
    assert where(recorded(ME, owner(State.DIRTY), Last.EXPECTED, pin)) == THERE


def test_a_user_without_a_machine_is_taken_where_that_is_allowed_and_else_does_not_exist() -> None:
    assert isinstance(unowned(dns_answers.Absent(""), invited=True), Here)
    refused = unowned(dns_answers.Absent(""), invited=False)
    assert isinstance(refused, Nowhere)
    assert refused.status == 404
    for invited in (True, False):
        assert isinstance(unowned(dns_answers.Found("3d8dd15c1ed778", "…", 0.0), invited=invited), Here)
        unknown = unowned(dns_answers.Unknown("timeout"), invited=invited)
        assert isinstance(unknown, Nowhere)
        assert unknown.status == 503


# --- replays which come to nothing ---


def trying() -> ReplayFailures:
    tries = ReplayFailures()
    tries.timeout = 30.0
    return tries


def test_a_failure_counts_only_where_we_have_tried_for_long_enough_ourselves() -> None:
    tries = trying()
    assert not tries.failed("ann", 30, 0), "no one was sent there"
    tries.sent("ann", THERE, 0)
    assert not tries.failed("ann", 30, PATIENCE - 1), "it may still be waking"
    tries.sent("ann", THERE, PATIENCE)
    assert not tries.failed("bob", 30, PATIENCE + 1)
    assert not tries.unreachable("ann", THERE, PATIENCE + 1), "that was said of others"
    assert tries.failed("ann", 1, PATIENCE + 1)
    assert tries.unreachable("ann", THERE, PATIENCE + 2)
    assert not tries.unreachable("ann", Target("shop", id=ME.id), PATIENCE + 2)
    assert not tries.unreachable("ann", THERE, PATIENCE + MEMORY + 2), "and then it is tried again"


def test_what_was_served_there_before_does_not_make_a_failure_older() -> None:
    tries = trying()
    for moment in range(0, 100, 10):
        tries.sent("ann", THERE, moment)
    assert not tries.failed("ann", 4, 94), "it may be waking"
    tries.sent("ann", THERE, 94)
    assert not tries.failed("ann", 4, 98)
    tries.sent("ann", THERE, 98)
    assert tries.failed("ann", 4, 102)


def test_a_failure_counts_only_when_the_proxy_may_just_have_given_up() -> None:
    """It cannot be claimed of a machine which had long enough to take the user, and has released it again."""
    tries = trying()
    tries.sent("ann", THERE, 0)
    assert not tries.failed("ann", 30, tries.timeout + LATE + 1)
    assert tries.failed("ann", 30, tries.timeout + LATE)


def test_old_tries_do_not_count_for_new_ones() -> None:
    tries = trying()
    tries.sent("ann", THERE, 0)
    tries.sent("ann", THERE, MEMORY + 1)
    tries.failed("ann", 30, MEMORY + 2)
    assert not tries.unreachable("ann", THERE, MEMORY + 2)


def test_tries_are_bounded() -> None:
    tries = trying()
    for number in range(MOST + 1):
        tries.sent(str(number), THERE, 0)
    tries.failed("0", 30, PATIENCE)
    tries.failed("1", 30, PATIENCE)
    assert (tries.unreachable("0", THERE, PATIENCE), tries.unreachable("1", THERE, PATIENCE)) == (False, True)


def test_users_missing_from_the_dns_are_decided_by_the_list_of_all_machines() -> None:
    unknown, none, old = dns_answers.Unknown("dns"), dns_answers.Absent("list"), dns_answers.Absent("list", stale=True)
    asleep, away = dns_answers.Found(OTHER, "list", 0), dns_answers.Unknown("list")
    for dns in (unknown, dns_answers.Absent("dns")):
        assert absent(dns, None) == dns, "there is no API to ask"
        for listed in (none, asleep, away):
            assert absent(dns, listed) == listed
    assert absent(dns_answers.Absent("dns"), old) == old
    assert absent(unknown, old) == unknown, "the user may have got one since"
