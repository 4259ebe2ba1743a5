"""Tests of which tenants stop because they are idle."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.tenants import idle
from flyatc.tenants.idle import Snapshot
from flyatc.tenants.state import State


def snapshot(
    tenant: str = "a",
    state: State = State.READY,
    requests: int = 0,
    quiet_since: float = 0.0,
    idle: float = 300.0,
    changed: bool = False,
    newcomer: bool = False,
) -> Snapshot:
    return Snapshot(tenant, state, requests, quiet_since, idle, changed, newcomer)


def test_no_tenant_is_stopped_before_it_is_due_and_the_next_look_is_then() -> None:
    assert idle.sweep([snapshot()], now=299.0) == ([], 300.0)


def test_a_tenant_without_requests_for_long_enough_is_stopped_with_the_reason() -> None:
    stops, look = idle.sweep([snapshot()], now=300.0)
    assert stops == [idle.Stop("a", "no request for 5 min", again=False)]
    assert look == math.inf


def test_a_tenant_with_a_request_is_never_idle() -> None:
    assert idle.sweep([snapshot(requests=1)], now=1e9) == ([], math.inf)


def test_idle_zero_means_never() -> None:
    assert idle.sweep([snapshot(idle=0)], now=1e9) == ([], math.inf)


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_only_a_ready_tenant_can_be_idle(state: State) -> None:
    assert idle.sweep([snapshot(state=state, changed=True)], now=1e9) == ([], math.inf)


def test_a_changed_tenant_is_restarted_after_a_moment_without_clients() -> None:
    one = snapshot(changed=True, idle=0, quiet_since=10)
    assert idle.sweep([one], now=10.5) == ([], 11.0)
    assert idle.sweep([one], now=11.0)[0] == [idle.Stop("a", "its configuration has changed", again=True)]


def test_a_changed_tenant_that_is_idle_too_is_only_stopped() -> None:
    stops, _ = idle.sweep([snapshot(changed=True)], now=300.0)
    assert [isinstance(stop, idle.Stop) and stop.again for stop in stops] == [False]


def test_the_next_look_is_the_earliest_of_all() -> None:
    many = [snapshot("a", quiet_since=5), snapshot("b", quiet_since=2), snapshot("c", requests=3)]
    assert idle.sweep(many, now=10) == ([], 302.0)


def test_the_least_recently_used_idle_one_makes_room() -> None:
    many = [
        snapshot("a", quiet_since=5),
        snapshot("b", quiet_since=2, idle=0),
        snapshot("c", quiet_since=1, requests=1),
        snapshot("d", quiet_since=0, state=State.STARTING),
    ]
    assert _evicted(many) == "b"
    assert _evicted(many[2:]) is None


snapshots = st.builds(
    Snapshot,
    tenant=st.text(min_size=1),
    state=st.sampled_from(State),
    requests=st.integers(0, 3),
    quiet_since=st.floats(0, 1000),
    idle=st.sampled_from([0.0, 1.0, 300.0]),
    changed=st.booleans(),
)


@given(st.lists(snapshots), st.floats(0, 2000))
def test_looking_again_when_due_finds_something_to_do(many: list[Snapshot], now: float) -> None:
    stops, look = idle.sweep(many, now)
    assert look > now
    if look < math.inf:
        assert len(idle.sweep(many, look)[0]) > len(stops)


def _evicted(snapshots: Iterable[idle.Snapshot], newcomer: bool = False) -> str | None:
    return idle.tenant_to_evict(snapshots, newcomer=newcomer)


def test_an_idle_newcomer_makes_room_first_however_recently_it_was_used() -> None:
    snapshots = [snapshot(tenant="a", quiet_since=1.0), snapshot(tenant="new", quiet_since=9.0, newcomer=True)]
    assert _evicted(snapshots) == "new"
    assert _evicted(snapshots, newcomer=True) == "new"
    assert _evicted(snapshots[:1]) == "a"


def test_a_newcomer_takes_the_place_of_newcomers_only() -> None:
    assert _evicted([snapshot(tenant="a", quiet_since=1.0)], newcomer=True) is None
    busy = snapshot(tenant="new", requests=1, newcomer=True)
    assert _evicted([snapshot(tenant="a", quiet_since=1.0), busy], newcomer=True) is None
