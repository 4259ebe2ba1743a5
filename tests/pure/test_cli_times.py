"""Times in the past, as operators write them."""

import time
from collections.abc import Iterator

import pytest

from flyatc.cli import databases

NOON = 1795262400.0  # 2026-11-21T12:00:00Z


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize(
    ("text", "past"),
    [
        ("2026-11-21T12:00:00Z", 0),
        ("2026-11-21t11:59:30z", 30),
        ("2026-11-21T13:00:00+01:00", 0),
        ("2026-11-21 11:00Z", 3600),
        ("2026-11-21T11:59:59.500000Z", 0.5),
        ("2026-11-21 07:00", 0),
        ("2026-11-21T06:00:00", 3600),
        ("07:00", 0),
        ("06:59:30", 30),
        ("2h", 7200),
        (" 1h30m ", 5400),
        ("2d", 2 * 86400),
    ],
)
def test_a_time_with_a_zone_a_local_one_and_an_age(text: str, past: float) -> None:
    assert databases.unix(text, NOON) == NOON - past


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-21", "120", "20261121T143000Z", "-2h", "2h ago"])
def test_an_invalid_time_is_reported_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time: write 2026-11-21T14:30:00Z, '2026-11-21 14:30'.*or 2h"):
        databases.unix(text, NOON)


def test_a_day_which_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="is no time: "):
        databases.unix("2026-02-30 12:00", NOON)


@pytest.mark.usefixtures("in_new_york")
def test_the_future_is_refused_but_for_a_clock_that_is_ahead() -> None:
    with pytest.raises(ValueError, match="is in the future"):
        databases.unix("2026-11-21T12:02:00Z", NOON)
    with pytest.raises(ValueError, match="is in the future"):
        databases.unix("23:59", NOON)
    assert databases.unix("2026-11-21T12:00:30Z", NOON) == NOON + 30
