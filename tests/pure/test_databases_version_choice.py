"""The version that a time means."""

from datetime import datetime

import pytest

from flyatc.databases.decisions.version_choice import NoneSoOld, Picked, SavedVersion, newest, rfc3339, saved_versions
from flyatc.databases.manifest import Pointer, Snapshot, name, point
from flyatc.observe.log import stamp

NOON = 1795262400.0


def snapshot(seq: int, minute: int) -> Snapshot:
    return Snapshot(
        key=name(1, seq), size=4096, compressed=500, sha256=f"{seq:064x}", saved=f"2026-11-21T12:{minute:02}:00Z"
    )


def history(*snapshots: Snapshot) -> Pointer:
    pointer: Pointer | None = None
    for one in snapshots:
        pointer = point(one, pointer, 1)
    assert pointer is not None
    return pointer


THREE = history(snapshot(1, 0), snapshot(2, 10), snapshot(4, 20))
THERE = {name(1, seq): NOON + 999 for seq in (1, 2, 3, 4, 5)}  # 3 and 5 were never published


@pytest.mark.parametrize(("minute", "seq"), [(0, 1), (9.99, 1), (10, 2), (19, 2), (20, 4), (999, 4)])
def test_the_newest_at_or_before_the_moment_is_taken(minute: float, seq: int) -> None:
    found = newest(saved_versions(THREE, THERE), NOON + minute * 60)
    assert isinstance(found, Picked)
    assert found.key == name(1, seq)
    assert "saved 2026-11-21T12:" in found.reason


def test_a_time_that_was_shown_means_the_version_that_it_was_shown_for() -> None:
    saved = NOON + 0.12345649
    shown = datetime.fromisoformat(stamp(saved)).timestamp()
    assert shown < saved
    assert isinstance(newest([SavedVersion(name(1, 1), saved)], shown), Picked)


def test_before_all_of_them_the_oldest_is_named() -> None:
    found = newest(saved_versions(THREE, THERE), NOON - 1)
    assert found == NoneSoOld(
        "there is no version from 2026-11-21T11:59:59Z or before: the oldest is 000001-000000001, saved "
        "2026-11-21T12:00:00Z"
    )


def test_what_was_removed_from_the_store_is_no_choice() -> None:
    there = {key: at for key, at in THERE.items() if key != name(1, 1)}
    assert isinstance(newest(saved_versions(THREE, there), NOON + 60), NoneSoOld)
    assert newest([], NOON) == NoneSoOld("it was never saved")


def test_where_the_pointer_does_not_reach_back_the_times_of_the_store_count() -> None:
    assert saved_versions(history(snapshot(3, 30)), {name(1, 2): NOON, name(1, 3): NOON, name(1, 4): NOON}) == [
        SavedVersion(name(1, 2), NOON),
        SavedVersion(name(1, 3), NOON + 1800),
    ]
    assert saved_versions(None, {name(1, 2): NOON, name(1, 1): NOON - 9}) == [
        SavedVersion(name(1, 1), NOON - 9),
        SavedVersion(name(1, 2), NOON),
    ]


def test_a_machine_whose_clock_is_behind_does_not_hide_its_later_version() -> None:
    found = newest(saved_versions(history(snapshot(1, 30), snapshot(2, 20)), THERE), NOON + 40 * 60)
    assert isinstance(found, Picked)
    assert found.key == name(1, 2)


def test_times_are_shown_in_utc() -> None:
    assert rfc3339(NOON + 0.9) == "2026-11-21T12:00:00Z"
