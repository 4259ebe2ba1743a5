"""Where a user is served: the rungs, one by one."""

import pytest

from flyatc.config.schema import Pin
from flyatc.fly import told
from flyatc.fly.machine import Machine
from flyatc.ownership.record import Data, Holder, Owner, State
from flyatc.routing.placement import Here, Nowhere, Place, There, named, pinned, recorded, unowned
from flyatc.routing.replay import Target

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
    assert pinned(ME, Pin(region="bos")) is None, "another machine of the region may have him"


def test_a_name_sends_to_the_machine_which_runs_and_what_is_not_known_sends_nowhere() -> None:
    assert where(named(ME, told.Found(OTHER, "", 0))) == THERE
    assert where(named(ME, told.Found(ME.id, "", 0))) is Here
    assert named(ME, told.Absent("")) is None
    assert named(ME, told.Unknown("")) is None


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("there", [True, None])
def test_the_last_owner_is_woken_rather_than_robbed(state: State, there: bool | None) -> None:
    assert where(recorded(ME, owner(state), there, None)) == THERE
    assert where(recorded(ME, owner(state, ME.id), there, None)) is Here


def test_a_last_owner_who_exists_no_more_or_is_none_of_fly_is_not_waited_for() -> None:
    assert recorded(ME, None, None, None) is None
    assert where(recorded(ME, owner(State.HELD), False, None)) is Here
    assert where(recorded(ME, owner(State.HELD, "local-0123456789ab", "local"), None, None)) is Here


def test_a_pin_to_another_region_moves_who_has_been_released_and_nobody_else() -> None:
    pin = Pin(region="bos")
    assert where(recorded(ME, owner(State.RELEASED), True, pin)) is Here
    assert where(recorded(ME, owner(State.RELEASED, region="bos"), True, pin)) == THERE
    assert where(recorded(ME, owner(State.HELD), True, pin)) == THERE
    assert where(recorded(ME, owner(State.DIRTY), True, pin)) == THERE


def test_whom_nobody_has_is_taken_where_he_is_invited_and_else_does_not_exist() -> None:
    assert isinstance(unowned(told.Absent(""), invited=True), Here)
    refused = unowned(told.Absent(""), invited=False)
    assert isinstance(refused, Nowhere)
    assert refused.status == 404
    for invited in (True, False):
        unknown = unowned(told.Unknown("timeout"), invited=invited)
        assert isinstance(unknown, Nowhere)
        assert unknown.status == 503
