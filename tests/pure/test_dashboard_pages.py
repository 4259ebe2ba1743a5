"""Values as the pages of the dashboard show them."""

import pytest

from flyatc.dashboard import pages


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (10240, "10 KB"),
        (1 << 20, "1.0 MB"),
        (5 << 40, "5.0 TB"),
    ],
)
def test_a_size(octets: int | None, text: str) -> None:
    assert pages.size(octets) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (700, "11 min"), (3600, "1 h"),
     (7500, "2 h 5 min"), (90000, "1 d 1 h"), (172800, "2 d")],
)  # fmt: skip
def test_a_duration(seconds: float | None, text: str) -> None:
    assert pages.duration(seconds) == text


def test_a_time_and_how_long_ago_it_was() -> None:
    assert pages.clock("2026-11-30T20:15:00.123456Z") == "2026-11-30 20:15:00 UTC"
    assert pages.clock(None) == pages.ago(None) == "–"
    assert pages.ago("1970-01-01T00:01:00Z", 180) == "2 min ago"
    assert pages.ago("1970-01-01T00:01:00Z", 30) == "in 30 s"


def test_a_count() -> None:
    assert [pages.count(number, "user") for number in (0, 1, 2000)] == ["0 users", "1 user", "2,000 users"]
