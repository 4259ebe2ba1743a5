"""The factor by which time limits of tests grow."""

import pytest

from slowness import MOST, factor


@pytest.mark.parametrize(
    ("by_hand", "hardware", "load", "cores", "expected"),
    [
        (None, 0.3, 0.1, 2, 1.0),
        (None, 1.0, 4.0, 2, 1.0),  # what the suite itself causes
        (None, 1.0, 12.0, 2, 3.0),
        (None, 2.0, 12.0, 2, 6.0),
        (None, 1.0, 12.0, 16, 1.0),
        (None, 50.0, 500.0, 1, MOST),
        ("7", 1.0, 100.0, 1, 7.0),
        ("", 1.0, 8.0, 2, 2.0),
    ],
)
def test_limits_grow_with_slow_hardware_and_foreign_load_and_never_shrink(
    by_hand: str | None, hardware: float, load: float, cores: int, expected: float
) -> None:
    assert factor(by_hand, hardware, load, cores) == pytest.approx(expected)
