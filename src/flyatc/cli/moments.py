"""A moment in the past, as people write it. Pure, but for the time zone of the machine."""

import re
from datetime import datetime

from flyatc.kit import units

SLACK = 60.0  # s; a clock read on another machine a moment ago may be ahead of ours

_LOCAL = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?")
_ZONED = re.compile(_LOCAL.pattern + r"(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


def unix(text: str, now: float) -> float:
    """``2026-11-21T14:30:00Z`` (RFC 3339), ``2026-11-21 14:30`` (local time), ``2h`` (so long ago). ``now``: Unix time.

    Raises ValueError with a sentence for people."""
    text = text.strip()
    if _ZONED.fullmatch(text) or _LOCAL.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text.upper()).timestamp()  # without a zone: the local one
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is no time: {error}") from error
    elif text[-1:].isalpha():
        try:
            moment = now - units.seconds(text)
        except ValueError:
            raise ValueError(_how(text)) from None
    else:
        raise ValueError(_how(text))
    if moment > now + SLACK:
        raise ValueError(f"{text!r} is in the future")
    return moment


def _how(text: str) -> str:
    return f"{text!r} is not a time: write 2026-11-21T14:30:00Z, '2026-11-21 14:30' (local time), or 2h (so long ago)"
