"""When an idle machine is stopped or suspended, with the reason; and how a sleep is noticed."""

import math

import pytest

from flyatc.config.schema_sections import MachineIdle
from flyatc.daemon.clock_gaps import REPORT_SECONDS, Cause, Reading, Slept, Stalled, StallReports, explain_clock_gap
from flyatc.daemon.machine_idle_rule import Due, NotYet, Seen, machine_idle_due

SLEEPS = MachineIdle(after=900, then="suspend")


@pytest.mark.parametrize(
    ("seen", "left", "reason"),
    [
        (Seen(quiet=0, up=5000), math.inf, "a request is served"),
        (Seen(quiet=300, up=5000), 600, "no request for 300 s of 900"),
        (Seen(quiet=5000, up=10), 890, "no request for 10 s of 900"),
        (Seen(quiet=901, up=5000, failures=1, since=0.5), 1.5, "the last attempt failed, the next is made 2 s after"),
        (Seen(quiet=901, up=5000, failures=4, since=6), 10, "the next is made 16 s after it"),
        (Seen(quiet=901, up=5000, failures=99, since=299), 1, "the next is made 300 s after it"),
    ],
)
def test_a_machine_stays_awake_for_a_reason_and_a_while(seen: Seen, left: float, reason: str) -> None:
    verdict = machine_idle_due(SLEEPS, seen)
    assert isinstance(verdict, NotYet)
    assert verdict.left == pytest.approx(left)
    assert reason in verdict.reason


@pytest.mark.parametrize("then", ["exit", "stop", "suspend"])
def test_it_is_due_whatever_is_to_be_done(then: str) -> None:
    settings = MachineIdle(after=900, then=then)  # type: ignore[arg-type]
    assert machine_idle_due(settings, Seen(quiet=900, up=900)) == Due("no request for 900 s")
    assert machine_idle_due(settings, Seen(quiet=900, up=900, failures=3, since=8)) == Due("no request for 900 s")


def test_without_a_deed_it_is_never_due() -> None:
    assert machine_idle_due(MachineIdle(), Seen(quiet=1e6, up=1e6)) == NotYet("machine_idle.then is none", math.inf)


def reading(boottime: float, wall: float, *, suspended: float = 0.0, ran: float = 0.0, waited: float = 0.0) -> Reading:
    return Reading(boottime, wall, boottime - suspended, ran, waited)


BEGUN = reading(1000.0, 5000.0)


@pytest.mark.parametrize(
    ("before", "now", "sign"),
    [
        ((1010.0, 5010.0), (1011.0, 5011.0), None),
        ((1010.0, 5010.0), (1011.9, 5011.9), None),
        ((1010.0, 5010.4), (1011.0, 5011.8), None),
        ((1010.0, 5010.0), (1011.0, 8611.0), "the wall clock jumped by 3600.0 s"),
        ((1010.0, 5010.9), (1011.0, 5012.1), "the wall clock jumped by 1.1 s"),
        ((1010.0, 5010.0), (1011.0, 5000.0), "the wall clock jumped by -11.0 s"),
    ],
)
def test_a_sleep_shows_by_the_clocks(before: tuple[float, float], now: tuple[float, float], sign: str | None) -> None:
    assert explain_clock_gap(BEGUN, reading(*before), reading(*now), 2.0) == (None if sign is None else Slept(sign))


def test_a_sleep_of_the_kernel_shows_though_the_wall_clock_went_on() -> None:
    before, now = reading(1010.0, 5010.0), reading(1310.0, 5310.0, suspended=299.0)
    assert explain_clock_gap(BEGUN, before, now, 6.0) == Slept("the kernel was suspended for 299.0 s")
    later = reading(1311.0, 5311.0, suspended=299.0)
    assert explain_clock_gap(BEGUN, now, later, 6.0) is None, "it is reported once"


@pytest.mark.parametrize(
    ("ran", "waited", "cause"),
    [
        (6.4, 0.0, Cause.BUSY),
        (4.0, 2.4, Cause.BUSY),
        (0.4, 5.9, Cause.CROWDED),
        (0.2, 0.1, Cause.STOPPED),
    ],
)
def test_a_loop_that_stood_still_on_a_machine_that_was_awake_has_not_slept(
    ran: float, waited: float, cause: Cause
) -> None:
    before = reading(1010.0, 5010.0, ran=50.0, waited=7.0)
    now = reading(1016.4, 5016.4, ran=50.0 + ran, waited=7.0 + waited)
    assert explain_clock_gap(BEGUN, before, now, 6.0) == Stalled(pytest.approx(6.4), cause)  # type: ignore[arg-type]


def test_stalls_are_reported_once_in_a_while_with_what_was_left_out() -> None:
    reports, one = StallReports(), Stalled(6.4, Cause.BUSY)
    assert reports.add(one, 100.0) == {"seconds": 6.4, "cause": Cause.BUSY.value}
    assert [reports.add(one, 100.0 + after) for after in (7, 20, REPORT_SECONDS - 0.1)] == [None] * 3
    more = reports.add(one, 100.0 + REPORT_SECONDS)
    assert more == {"seconds": 6.4, "cause": Cause.BUSY.value, "times": 4, "seconds_in_all": 25.6}
