"""Dates of HTTP (RFC 9110 §5.6.7). Pure."""

import re
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

_MONTHS = {m: n for n, m in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_MONTH = b"(?P<month>" + b"|".join(_MONTHS) + b")"
_CLOCK = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMS = (
    re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) %b (?P<year>\d{4}) %b GMT" % (_MONTH, _CLOCK)),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-%b-(?P<year>\d\d) %b GMT" % (_MONTH, _CLOCK)
    ),
    re.compile(rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) %b (?P<day>[ \d]\d) %b (?P<year>\d{4})" % (_MONTH, _CLOCK)),
)


_LONGEST = 40


def read(value: bytes) -> int | None:
    """Unix seconds of a date in any of the three forms; None for what is no date (two dates in one value too)."""
    return _read(value) if len(value) <= _LONGEST else None


@lru_cache(512)
def _read(value: bytes) -> int | None:
    match = next((m for form in _FORMS if (m := form.fullmatch(value))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 2000 if year < 70 else 1900  # nobody has written this form since about 1996
    try:
        moment = datetime(
            year,
            _MONTHS[match["month"]],
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(int(match["second"]), 59),  # a leap second is allowed, and unknown to datetime
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp())


def write(moment: float) -> bytes:
    """``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return formatdate(int(moment), usegmt=True).encode()
