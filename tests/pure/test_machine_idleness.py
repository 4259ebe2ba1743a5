"""When a machine which nobody visits is put to rest, with the reason; and how it shows that it slept."""

import math

import pytest

from flyatc.config.platform import MachineIdle
from flyatc.daemon.idleness import Due, NotYet, Reading, Seen, gap, judge

SLEEPS = MachineIdle(after=900, then="suspend")


@pytest.mark.parametrize(
    ("seen", "left", "reason"),
    [
        (Seen(quiet=0, up=5000), math.inf, "somebody is served"),
        (Seen(quiet=300, up=5000), 600, "nobody has come for 300 s of 900"),
        (Seen(quiet=5000, up=10), 890, "nobody has come for 10 s of 900"),
        (Seen(quiet=901, up=5000, failures=1, since=0.5), 1.5, "the last try failed, and the next is made 2 s after"),
        (Seen(quiet=901, up=5000, failures=4, since=6), 10, "the next is made 16 s after it"),
        (Seen(quiet=901, up=5000, failures=99, since=299), 1, "the next is made 300 s after it"),
    ],
)
def test_a_machine_stays_awake_for_a_reason_and_a_while(seen: Seen, left: float, reason: str) -> None:
    verdict = judge(SLEEPS, seen)
    assert isinstance(verdict, NotYet)
    assert verdict.left == pytest.approx(left)
    assert reason in verdict.reason


@pytest.mark.parametrize("then", ["exit", "stop", "suspend"])
def test_it_is_due_whatever_is_to_be_done(then: str) -> None:
    settings = MachineIdle(after=900, then=then)  # type: ignore[arg-type]
    assert judge(settings, Seen(quiet=900, up=900)) == Due("nobody has come for 900 s")
    assert judge(settings, Seen(quiet=900, up=900, failures=3, since=8)) == Due("nobody has come for 900 s")


def test_without_a_deed_it_is_never_due() -> None:
    assert judge(MachineIdle(), Seen(quiet=1e6, up=1e6)) == NotYet("machine_idle.then is none", math.inf)


BEGUN = Reading(boottime=1000.0, wall=5000.0)


@pytest.mark.parametrize(
    ("before", "now", "sign"),
    [
        ((1010.0, 5010.0), (1011.0, 5011.0), None),
        ((1010.0, 5010.0), (1011.9, 5011.9), None),
        ((1010.0, 5010.4), (1011.0, 5011.8), None),
        ((1010.0, 5010.0), (1013.0, 5013.0), "nothing ran for 3.0 s"),
        ((1010.0, 5010.0), (1011.0, 8611.0), "the wall clock jumped by 3600.0 s"),
        ((1010.0, 5010.9), (1011.0, 5012.1), "the wall clock jumped by 1.1 s"),
        ((1010.0, 5010.0), (1011.0, 5000.0), "the wall clock jumped by -11.0 s"),
    ],
)
def test_a_sleep_shows_by_the_clocks(before: tuple[float, float], now: tuple[float, float], sign: str | None) -> None:
    assert gap(BEGUN, Reading(*before), Reading(*now), 2.0) == sign
