"""Values as the pages of the dashboard show them."""

from flyatc.dashboard import pages


def test_sizes_and_durations_are_as_everywhere_or_not_known() -> None:
    assert (pages.size(None), pages.size(0), pages.size(10240)) == ("–", "0 B", "10.0 KB")
    assert (pages.duration(None), pages.duration(30), pages.duration(7500)) == ("–", "30 s", "2 h 5 min")


def test_a_time_and_how_long_ago_it_was() -> None:
    assert pages.clock("2026-11-30T20:15:00.123456Z") == "2026-11-30 20:15:00 UTC"
    assert pages.clock(None) == pages.ago(None) == "–"
    assert pages.ago("1970-01-01T00:01:00Z", 180) == "2 min ago"
    assert pages.ago("1970-01-01T00:01:00Z", 30) == "in 30 s"


def test_a_count() -> None:
    assert [pages.count(number, "user") for number in (0, 1, 2000)] == ["0 users", "1 user", "2,000 users"]
