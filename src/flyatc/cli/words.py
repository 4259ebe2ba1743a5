"""Times and texts as people read them. Pure."""

from datetime import datetime

from flyatc.observe.readable import plain as plain
from flyatc.observe.readable import plain_lines as plain_lines

_STEPS = ((172800.0, 86400.0, "d"), (5400.0, 3600.0, "h"), (60.0, 60.0, "m"), (1.0, 1.0, "s"))


def ago(stamp: str, now: float) -> str:
    """RFC 3339 → ``"3m ago"``, ``"in 12s"``, ``"now"``. ``now``: Unix time."""
    past = now - datetime.fromisoformat(stamp).timestamp()
    for least, size, unit in _STEPS:
        if abs(past) >= least:
            count = f"{abs(past) / size:.0f}{unit}"
            return f"{count} ago" if past > 0 else f"in {count}"
    return "now"


def count(number: int, word: str) -> str:
    """``"1 user"``, ``"2 users"``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
