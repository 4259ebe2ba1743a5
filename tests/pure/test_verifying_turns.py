"""Whose turn it is to be drilled again."""

from flyatc.daemon.verifying import Drilled, due
from flyatc.databases.drill import Verdict

DAY = 86400.0
NOW = 1795262400.0


def drilled(at: float, *states: str) -> Drilled:
    verdicts = [Verdict(tenant="ann", database="a.db", state=state) for state in states]
    return Drilled(tenant="ann", database="a.db", at=at, verdicts=verdicts)


def turns(one: Drilled) -> bool:
    return bool(due({("ann", "a.db"): one}, DAY, NOW))


def test_once_in_a_period() -> None:
    assert not turns(drilled(NOW - DAY + 1, "ok"))
    assert turns(drilled(NOW - DAY, "ok"))
    assert not turns(drilled(NOW, "damaged"))
    assert not turns(drilled(NOW))


def test_what_could_not_be_tried_is_tried_at_the_next_look() -> None:
    assert turns(drilled(NOW - 1, "unknown"))
    assert not turns(drilled(NOW - 1, "unknown", "damaged")), "the worst of what is known counts"


def test_a_clock_which_was_put_back_does_not_put_it_off_for_ever() -> None:
    assert turns(drilled(NOW + 10 * DAY, "ok"))
