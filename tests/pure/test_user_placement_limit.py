"""The limit on look-ups of unknown users."""

from flyatc.daemon.user_placement import A_SECOND, AT_ONCE, UNDER_WAY, LookupLimit


def looked_up(strangers: LookupLimit, now: float, count: int, *, known: bool = False) -> int:
    """How many of so many who come at once are looked up, each of them answered before the next comes."""
    found = 0
    for _ in range(count):
        if strangers.allows(now):
            strangers.enter(now)
            strangers.exit(known=known)
            found += 1
    return found


def test_a_storm_is_looked_up_for_a_moment_and_then_so_many_a_second() -> None:
    strangers = LookupLimit()
    assert looked_up(strangers, 1000.0, 5000) == AT_ONCE
    for second in range(10):
        assert abs(looked_up(strangers, 1001.0 + second, 1000) - A_SECOND) <= 1
    assert looked_up(strangers, 2000.0, 5000) == AT_ONCE


def test_a_known_user_is_not_limited() -> None:
    strangers = LookupLimit()
    assert looked_up(strangers, 1000.0, 10_000, known=True) == 10_000
    assert looked_up(strangers, 1000.0, 5000) == AT_ONCE


def test_where_responses_do_not_come_a_bounded_number_waits() -> None:
    strangers = LookupLimit()
    for _ in range(UNDER_WAY):
        assert strangers.allows(1000.0)
        strangers.enter(1000.0)
    assert not strangers.allows(1000.0)
    strangers.exit(known=True)
    assert strangers.allows(1000.0)
