"""The state table of a tenant."""

import itertools

import pytest

from flyatc.tenants import state as tenant_state
from flyatc.tenants.state import INACTIVE_STATES, JOINABLE_STATES, NEXT, START_STATES, STOP_STATES, State


def test_every_state_is_in_the_table_and_can_be_left_and_reached() -> None:
    assert set(NEXT) == set(State)
    assert all(NEXT[state] for state in State)
    assert set().union(*NEXT.values()) == set(State)


def test_every_state_belongs_to_one_group() -> None:
    groups = [START_STATES, {State.READY}, STOP_STATES, INACTIVE_STATES]
    assert sorted(itertools.chain(*groups)) == sorted(State)
    assert START_STATES | {State.READY} == JOINABLE_STATES


def test_a_whole_run_is_a_path_through_the_states() -> None:
    state = State.STOPPED
    for following in (
        "owning",
        "restoring",
        "queued",
        "preparing",
        "starting",
        "ready",
        "draining",
        "saving",
        "stopped",
    ):
        state = tenant_state.check_transition(state, State(following))
    assert state is State.STOPPED


def test_commands_without_an_app_are_followed_by_the_app_or_by_the_save() -> None:
    assert NEXT[State.EXECUTING] & {State.SAVING, State.STARTING} == {State.SAVING, State.STARTING}
    assert not NEXT[State.EXECUTING] & INACTIVE_STATES


@pytest.mark.parametrize(("old", "new"), [(o, n) for o, n in itertools.product(State, State) if n not in NEXT[o]])
def test_what_is_not_in_the_table_is_refused_in_a_sentence(old: State, new: State) -> None:
    with pytest.raises(tenant_state.InvalidTransition, match=f"{new} cannot follow {old}"):
        tenant_state.check_transition(old, new)


def test_an_app_that_was_spawned_never_rests_before_its_data_is_saved() -> None:
    for state in (State.PREPARING, State.STARTING, State.READY, State.DRAINING):
        assert not NEXT[state] & INACTIVE_STATES
