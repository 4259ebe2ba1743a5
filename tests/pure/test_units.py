import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.kit import units


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("2.5", 2.5), ("500ms", 0.5), ("60s", 60), ("5m", 300), ("1h30m", 5400), ("2d", 172800), (" 1s ", 1)],
)
def test_durations_are_read_as_people_write_them(text: str, value: float) -> None:
    assert units.seconds(text) == value


@pytest.mark.parametrize("text", ["", "-5s", "5 m", "1m5", "5x", "s", "1e3", "nan", ".inf", "٣s", "5mm", "1,5s"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: write 500ms, 60s, 5m, 1h30m or 2d"):
        units.seconds(text)


@pytest.mark.parametrize("text", ["4000d", "9" * 400])
def test_a_duration_of_more_than_ten_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        units.seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("512", 512), ("64KB", 65536), ("64k", 65536), ("1MiB", 1048576), ("1.5 GB", 1610612736), ("10B", 10)],
)
def test_sizes_are_read_as_people_write_them(text: str, value: int) -> None:
    assert units.size(text) == value


@pytest.mark.parametrize("text", ["", "-1", "KB", "1XB", "1e3", "1 2", "٣KB"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size: write 512, 64KB, 10MB or 1GB"):
        units.size(text)


@pytest.mark.parametrize("text", ["9000000000TB", "9" * 400])
def test_a_size_beyond_any_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="larger than any file"):
        units.size(text)


@given(st.integers(0, int(units.LONGEST) * 1000))
def test_a_written_duration_reads_back_as_itself(milliseconds: int) -> None:
    assert units.seconds(units.written_seconds(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.one_of(st.integers(0, 2**50), st.integers(0, 10**6).map(lambda count: count * 1024**2)))
def test_a_written_size_reads_back_as_itself(count: int) -> None:
    assert units.size(units.written_size(count)) == count


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "12 ms"),
        (0.9996, "1 s"),
        (1.5, "1.5 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.96, "1 min"),
        (95, "1 min 35 s"),
        (700, "11 min"),
        (3599.7, "1 h"),
        (7260, "2 h 1 min"),
        (172800, "2 d"),
        (200000, "2 d 7 h"),
    ],
)
def test_durations_are_shown_without_false_digits(value: float, text: str) -> None:
    assert units.human_seconds(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (1048575, "1.0 MB"), (3 * 1024**4, "3.0 TB")]
)
def test_sizes_are_shown_without_false_digits(count: int, text: str) -> None:
    assert units.human_size(count) == text
