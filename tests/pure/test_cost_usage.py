"""Use by day: sums over a period, and bounds."""

import pytest

from flyatc.cost import usage
from flyatc.cost.usage import Day, Period, Use

FIRST = 1_790_812_800.0  # 2026-10-01 in UTC
DAY = 86400.0


def day(number: int, *, begin: float = 0.0, end: float = DAY, up: float = DAY, **users: Use) -> Day:
    """The day so many days after the first. ``begin``, ``end``: seconds of it."""
    at = FIRST + number * DAY
    return Day(date=usage.date_of(at), since=at + begin, until=at + end, up=up, users=users)


def test_a_moment_belongs_to_a_day_in_utc() -> None:
    assert usage.date_of(FIRST) == "2026-10-01"
    assert usage.date_of(FIRST - 1) == "2026-09-30"


def test_a_period_is_the_sum_of_its_days() -> None:
    one, two = Use(seconds=10, requests=3, sent=5), Use(seconds=5, reads=2)
    found = usage.period([day(1, ann=two), day(0, ann=one, bob=two)], 30, FIRST + 2 * DAY)
    assert found == Period(
        since=FIRST, until=FIRST + 2 * DAY, up=2 * DAY,
        users={"ann": Use(seconds=15, requests=3, sent=5, reads=2), "bob": two},
    )  # fmt: skip
    assert (one.seconds, two.seconds) == (10, 5)  # the days themselves are not changed


def test_a_machine_that_slept_for_days_was_observed_meanwhile() -> None:
    found = usage.period(
        [day(0, begin=50_000, end=53_600, up=3600), day(3, end=100, up=100)], 30, FIRST + 3 * DAY + 100
    )
    assert (found.until - found.since, found.up) == (3 * DAY + 100 - 50_000, 3700)


def test_what_was_before_the_first_day_is_not_taken_for_idle() -> None:
    found = usage.period([day(0, begin=40_000)], 30, FIRST + DAY)
    assert found.since == FIRST + 40_000


def test_a_shorter_period_has_only_the_last_days_in_full() -> None:
    found = usage.period([day(number, ann=Use(seconds=1)) for number in range(10)], 3, FIRST + 9.5 * DAY)
    assert (found.since, found.up, found.users["ann"].seconds) == (FIRST + 6 * DAY, 4 * DAY, 4)


def test_a_machine_that_has_slept_all_the_period_has_cost_nothing_in_it() -> None:
    found = usage.period([day(0, ann=Use(seconds=9))], 7, FIRST + 20 * DAY)
    assert (found.since, found.up, found.users) == (FIRST + 13 * DAY, 0, {})


def test_without_days_nothing_was_observed() -> None:
    assert usage.period([], 30, FIRST) == Period(since=FIRST, until=FIRST, up=0, users={})


def test_days_are_kept_for_two_months() -> None:
    dates = [usage.date_of(FIRST + number * DAY) for number in range(100)]
    assert usage.expired(dates, dates[-1]) == dates[:-62]


def test_the_users_of_a_day_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_USERS", 2)
    one = day(0)
    for user in ("ann", "bob", "cid", "dan", "ann", "cid"):
        one.of(user).requests += 1
    assert {user: use.requests for user, use in one.users.items()} == {"ann": 2, "bob": 1, "~others": 3}
