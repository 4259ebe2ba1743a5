"""Plans: random, and yet the same for the same seed."""

import pytest

from torture.plan import AWAY, FIRST, MACHINES, STORE, TAKEN_OVER, Fault, Kind, draw, short


def test_a_seed_gives_the_same_plan_again() -> None:
    assert draw(7, "snapshot", 60) == draw(7, "snapshot", 60)
    assert draw(7, "snapshot", 60) != draw(8, "snapshot", 60)
    assert draw(7, "snapshot", 60).faults != draw(7, "litestream", 60).faults


@pytest.mark.parametrize("seed", range(10))
def test_a_plan_keeps_its_time_and_its_machines(seed: int) -> None:
    plan = draw(seed, "snapshot", 60)
    assert len(plan.rates) == MACHINES
    assert [fault.at for fault in plan.faults] == sorted(fault.at for fault in plan.faults)
    assert all(FIRST <= fault.at < 60 for fault in plan.faults)
    assert all(fault.target is None or 0 <= fault.target < MACHINES for fault in plan.faults)


def test_twenty_seeds_contain_every_fault_of_a_holder_short_and_long() -> None:
    faults = [fault for seed in range(1, 21) for fault in draw(seed, "snapshot", 60).faults if fault.target is None]
    assert {fault.kind for fault in faults} == set(Kind) - {Kind.DNS}  # which is the platform, and no machine
    long = {fault.kind for fault in faults if fault.lasts > TAKEN_OVER}
    assert {Kind.CRASH, Kind.PAUSE, Kind.STALL, Kind.WIPE, *AWAY} <= long
    assert {fault.kind for fault in faults if fault.kind in STORE and fault.lasts < TAKEN_OVER} == set(STORE)


def test_machines_name_themselves_in_some_seeds_and_not_in_others() -> None:
    assert {draw(seed, "snapshot", 60).platform for seed in range(1, 11)} == {True, False}


def test_the_short_plan_lets_others_take_over_once() -> None:
    plan = short("snapshot")
    assert [fault.kind for fault in plan.faults if fault.lasts > TAKEN_OVER] == [Kind.CRASH]
    assert [fault.kind for fault in plan.faults if fault.until_taken] == [Kind.CRASH]
    assert max(fault.ends for fault in plan.faults if not fault.until_taken) <= plan.seconds


def test_a_fault_is_described_in_words() -> None:
    assert (
        str(Fault(3.0, Kind.DELAY, 2.0, None, 0.5))
        == "   3.0 s: the serving machine: store is slow by +0.5 s, for 2.0 s"
    )
    assert str(Fault(3.0, Kind.CRASH, 2.0, 1)) == "   3.0 s: m1: all killed, for 2.0 s"


def test_a_few_seeds_in_a_row_have_every_habit() -> None:
    habits = [draw(seed, "snapshot", 60).habits for seed in range(1, 5)]
    assert {habit.writer for habit in habits} == {"", "child", "session", "daemon"}
    assert {habit.checkpoint for habit in habits} == {"", "TRUNCATE", "RESTART"}
    assert all(habit.burst for habit in habits)
