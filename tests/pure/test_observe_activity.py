"""The last day of each tenant: slots, their times, bounds, what a later daemon restores."""

import math
from array import array
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.observe import activity, counters
from flyatc.observe.activity import SLOT, SLOTS, WORDS, Activity, Slot, within
from flyatc.observe.counters import DURATIONS, FAILED, Counters

NOON = 1_790_856_000.0  # 2026-10-01, 12:00 in UTC; the begin of a slot


def respond(to: Counters, tenant: str, seconds: Sequence[float], *, failed: int = 0) -> None:
    """Count responses as ``edge.access_log`` does."""
    times = to.timed(tenant)
    for one in seconds:
        times[sum(bound < one for bound in DURATIONS)] += 1
    times[FAILED] += failed


def begun(now: float = NOON) -> tuple[Activity, Counters]:
    counted = Counters()
    return Activity(counted, now), counted


@given(st.lists(st.floats(0.0003, 600), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_part_of_the_responses_was_sent_within_the_time_to_a_tenth(seconds: list[float], part: float) -> None:
    counted = Counters()
    respond(counted, "ann", seconds)
    exact = sorted(seconds)[math.ceil(part * len(seconds)) - 1]
    assert within(counted.times["ann"], part) == pytest.approx(exact, rel=0.1)


def test_times_beyond_the_bounds_count_as_the_bounds() -> None:
    counted = Counters()
    respond(counted, "ann", [0.0])
    respond(counted, "bob", [1e6])
    assert within(counted.times["ann"], 1) == DURATIONS[0]
    assert within(counted.times["bob"], 1) == DURATIONS[-1]
    assert within(counted.timed("cid"), 0.5) == 0


def test_the_open_slot_is_seen_at_once_and_a_closed_one_stays() -> None:
    one, counted = begun()
    respond(counted, "ann", [0.01] * 98 + [2.0] * 2, failed=3)
    one.use("ann", 50 << 20)
    one.use("ann", 40 << 20)
    assert not one.look(NOON + SLOT - 1)
    (opened,) = one.of("ann", NOON + SLOT - 1)
    assert (opened.at, opened.requests, opened.errors, opened.memory) == (NOON, 100, 3, 50 << 20)
    assert opened.median == pytest.approx(0.01, rel=0.1)
    assert opened.slow == pytest.approx(2, rel=0.1)
    assert one.look(NOON + SLOT)
    assert one.of("ann", NOON + SLOT) == [opened]
    assert counted.times == {}
    assert one.of("bob", NOON) == []


def test_a_running_app_without_requests_has_memory_and_one_that_is_stopped_has_no_slot() -> None:
    one, counted = begun()
    one.use("ann", 1 << 20)
    one.look(NOON + SLOT)
    one.look(NOON + 2 * SLOT)
    respond(counted, "ann", [0.001])
    one.look(NOON + 3 * SLOT)
    found = [(slot.at - NOON, slot.requests, slot.memory) for slot in one.of("ann", NOON + 3 * SLOT)]
    assert found == [(0, 0, 1 << 20), (2 * SLOT, 1, 0)]


def test_responses_without_a_tenant_have_no_slots() -> None:
    one, counted = begun()
    respond(counted, "", [0.001])
    respond(counted, counters.OTHERS, [0.001])
    one.look(NOON + SLOT)
    assert one.saved() == b""


def test_only_a_day_is_kept() -> None:
    one, counted = begun()
    for number in range(SLOTS + 10):
        respond(counted, "ann", [0.001])
        one.look(NOON + (number + 1) * SLOT)
    now = NOON + (SLOTS + 10) * SLOT
    assert [slot.at for slot in one.of("ann", now)] == [now - left * SLOT for left in range(SLOTS - 1, 0, -1)]
    assert len(one._past["ann"]) == SLOTS * WORDS
    one.look(now + 86400)
    assert one._past == {}, "a tenant that was not active for a day takes no memory"


def test_the_least_recently_active_tenant_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MOST_TENANTS", 2)
    one, counted = begun()
    now = NOON
    for tenant in ("ann", "bob", "ann", "cid"):
        respond(counted, tenant, [0.001])
        one.use(tenant, 1)
        now += SLOT
        one.look(now)
    assert list(one._past) == ["ann", "cid"]
    for number in range(5):
        one.use(str(number), 1)
    assert len(one._memory) == 2


def test_tenants_beyond_the_bound_are_timed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MOST_TIMED", 2)
    counted = Counters()
    for tenant in ("ann", "bob", "cid", "ann", "dan"):
        respond(counted, tenant, [0.001])
    assert {tenant: sum(times) for tenant, times in counted.times.items()} == {"ann": 2, "bob": 1, "~others": 2}


def test_slots_of_a_clock_that_was_ahead_are_dropped() -> None:
    one, counted = begun(NOON + 10 * SLOT)
    respond(counted, "ann", [0.001])
    one.look(NOON)
    assert one.of("ann", NOON) == []
    respond(counted, "ann", [0.001, 0.001])
    one.look(NOON + SLOT)
    assert [(slot.at, slot.requests) for slot in one.of("ann", NOON + SLOT)] == [(NOON, 2)]


def test_a_later_daemon_continues_the_day_and_the_slot() -> None:
    one, counted = begun()
    respond(counted, "ann", [0.001], failed=1)
    one.look(NOON + SLOT)
    respond(counted, "ann", [0.1, 0.1])
    one.use("bob", 1 << 20)
    later, counted = begun(NOON + SLOT + 60)
    respond(counted, "ann", [3.0])
    later.restore(one.saved())
    first, second = later.of("ann", NOON + SLOT + 60)
    assert (first.at, first.requests, first.errors) == (NOON, 1, 1)
    assert (second.at, second.requests) == (NOON + SLOT, 3)
    assert second.slow == pytest.approx(0.1, rel=0.1)
    assert later.of("bob", NOON + SLOT + 60) == [Slot(int(NOON) + SLOT, 0, 0, 0.0, 0.0, 1 << 20)]
    later.look(NOON + 2 * SLOT)
    assert later.of("ann", NOON + 2 * SLOT) == [first, second]


def test_a_restore_after_slots_were_closed_keeps_both() -> None:
    one, counted = begun()
    respond(counted, "ann", [0.001])
    later, counted = begun(NOON + 60)
    respond(counted, "ann", [0.001] * 5)
    later.look(NOON + SLOT)
    later.restore(one.saved())
    assert [(slot.at, slot.requests) for slot in later.of("ann", NOON + SLOT)] == [(NOON, 6)]


@given(st.binary(max_size=300))
def test_a_damaged_file_is_no_error(saved: bytes) -> None:
    one, _ = begun()
    one.restore(saved)
    assert one._past == {}


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_records_that_are_not_in_order_are_not_restored(words: list[int]) -> None:
    one, _ = begun()
    one.restore(msgspec.msgpack.encode({"v": 1, "tenants": {"ann": array("I", words).tobytes()}}))
    numbers = [record[0] for record in activity._records(one._past.get("ann", array("I")))]
    assert numbers == sorted(set(numbers))
    one.of("ann", NOON)  # whatever the numbers are


def test_a_file_of_another_version_is_not_restored() -> None:
    one, counted = begun()
    respond(counted, "ann", [0.001])
    later, _ = begun()
    later.restore(one.saved().replace(b"\xa1v\x01", b"\xa1v\x02"))
    assert later._past == {}
    later.restore(one.saved())
    assert list(later._past) == ["ann"]
