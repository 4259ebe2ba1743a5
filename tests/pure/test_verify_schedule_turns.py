"""The tenant that is verified next."""

from flyatc.daemon.verify_schedule import VerifyResult, due, due_of_running
from flyatc.databases.verify import Verdict

DAY = 86400.0
NOW = 1795262400.0


def drilled(at: float, *states: str) -> VerifyResult:
    verdicts = [Verdict(tenant="ann", database="a.db", state=state) for state in states]
    return VerifyResult(tenant="ann", database="a.db", at=at, verdicts=verdicts)


def turns(one: VerifyResult) -> bool:
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


NAMES = [("ann", f"{number}.db") for number in range(40)]


def running(since: float, known: dict[tuple[str, str], VerifyResult] | None = None) -> list[tuple[str, str]]:
    return due_of_running(known or {}, NAMES, since, DAY, NOW)


def test_first_turns_of_what_runs_are_spread_over_the_second_half_of_a_period() -> None:
    assert running(NOW - DAY / 2) == []
    assert 10 < len(running(NOW - 0.75 * DAY)) < 30
    assert running(NOW - DAY - 1) == NAMES


def test_what_was_drilled_in_this_run_has_its_turn_a_period_later() -> None:
    def known(at: float, state: str = "ok") -> dict[tuple[str, str], VerifyResult]:
        return {NAMES[0]: drilled(at, state)}

    week = NOW - 7 * DAY
    assert NAMES[0] not in running(week, known(NOW - DAY + 1))
    assert NAMES[0] in running(week, known(NOW - DAY))
    assert NAMES[0] in running(week, known(NOW - 1, "unknown"))
    assert NAMES[0] in running(week, known(NOW + DAY)), "the clock was put back"


def test_a_short_run_is_not_drilled_whatever_was_found_before_it() -> None:
    assert running(NOW - 3600, {NAMES[0]: drilled(NOW - 9 * DAY, "ok")}) == []
