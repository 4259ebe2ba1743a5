"""Maintenance and pauses of a tenant, a user and everything: may a request reach its app."""

import pytest

from flyatc.edge.maintenance_rules import EVERYTHING, Closed, Pause, Paused, covers, judge, refusal

SHORT, LONG = Pause(1.0, 0.0), Pause(30.0, 0.0)


def test_without_rules_nothing_is_refused() -> None:
    assert judge("ann/one", {}, {}) is None
    assert judge("ann/one", {"bob": "…", "ann/on": "…", "one": "…"}, {"ann/two": SHORT, "an": SHORT}) is None


@pytest.mark.parametrize("scope", ["ann/2025/winter", "ann", EVERYTHING])
def test_a_rule_applies_to_a_tenant_a_user_or_everything(scope: str) -> None:
    assert judge("ann/2025/winter", {scope: "back at noon"}, {}) == Closed(scope, "back at noon")
    assert judge("ann/2025/winter", {}, {scope: SHORT}) == Paused(scope, SHORT)
    assert covers(scope, "ann/2025/winter")


def test_a_part_of_an_address_is_no_scope() -> None:
    assert judge("ann/2025/winter", {"ann/2025": "…"}, {"ann/2025": SHORT}) is None
    assert not covers("ann/2025", "ann/2025/winter")


def test_the_nearest_word_counts() -> None:
    assert judge("ann/one", {EVERYTHING: "all", "ann": "closed"}, {}) == Closed("ann", "closed")
    assert judge("ann/one", {}, {EVERYTHING: LONG, "ann/one": SHORT, "ann": LONG}) == Paused("ann/one", SHORT)


@pytest.mark.parametrize("closed", ["ann/one", "ann", EVERYTHING])
@pytest.mark.parametrize("paused", ["ann/one", "ann", EVERYTHING])
def test_maintenance_wins_over_a_pause_whichever_is_the_narrower(closed: str, paused: str) -> None:
    assert judge("ann/one", {closed: "shut"}, {paused: LONG}) == Closed(closed, "shut")


def test_the_tenants_beside_a_closed_one_are_held_by_the_users_pause() -> None:
    closed, paused = {"ann/one": "shut"}, {"ann": LONG}
    assert judge("ann/two", closed, paused) == Paused("ann", LONG)


@pytest.mark.parametrize(
    ("waited", "held", "why"),
    [
        (0.0, 0, None),
        (29.9, 9, None),
        (30.0, 0, "paused (ann): not resumed within 30 s"),
        (0.0, 10, "paused (ann): 10 requests are held already, which is limits.held"),
    ],
)
def test_a_request_that_is_not_held_has_a_reason(waited: float, held: int, why: str | None) -> None:
    assert refusal(Paused("ann", LONG), waited=waited, held=held, most=10) == why


def test_reasons_name_the_scope() -> None:
    assert Closed(EVERYTHING, "…").reason == "closed for maintenance (everything)"
    assert Paused("ann/one", SHORT).reason == "paused (ann/one)"
