"""Retry delays. Pure."""


def delay(failures: int, first: float = 1.0, most: float = 60.0) -> float:
    """Return the delay in seconds after ``failures`` in a row: 0 → 0, 1 → ``first``, then doubling up to ``most``."""
    if failures <= 0:
        return 0.0
    return min(most, first * 2.0 ** min(failures - 1, 60))
