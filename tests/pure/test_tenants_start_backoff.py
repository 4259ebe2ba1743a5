"""Back-off between failed runs."""

from flyatc.kit import timing
from flyatc.tenants.run_history import StartBackoff


def test_the_delay_doubles_up_to_its_bound() -> None:
    assert [timing.delay(n) for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert timing.delay(100_000) == 60


def test_failed_starts_wait_longer_each_time() -> None:
    setbacks, waits, now = StartBackoff(), [], 0.0
    for _ in range(8):
        waits.append(setbacks.start_failed(now))
        assert setbacks.until == now + waits[-1]
        now = setbacks.until
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_first_crash_costs_nothing_and_the_second_within_a_minute_backs_off() -> None:
    setbacks = StartBackoff()
    assert [setbacks.crashed(now) for now in (100, 159, 165)] == [0, 1, 2]


def test_crashes_more_than_a_minute_apart_are_each_a_first_one() -> None:
    setbacks = StartBackoff()
    assert [setbacks.crashed(now) for now in (100, 161, 222)] == [0, 0, 0]


def test_a_back_off_does_not_count_as_time_between_crashes() -> None:
    setbacks, now, waits = StartBackoff(), 0.0, []
    for _ in range(9):
        waits.append(setbacks.crashed(now))
        now += waits[-1] + 5
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_run_that_was_ready_for_more_than_a_minute_resets_the_backoff() -> None:
    setbacks = StartBackoff()
    setbacks.start_failed(0)
    setbacks.start_failed(1)
    setbacks.survived(60)
    assert setbacks.start_failed(10) == 4
    setbacks.survived(61)
    assert setbacks.start_failed(100) == 1
