"""Stored parts of a body: reading Content-Range, joining parts (RFC 9111 §3.3, §3.4), covering a Range. Pure.

Section numbers without a name refer to RFC 9110.
"""

import re
from typing import NamedTuple

from flyatc.delivery import conditional

_CONTENT_RANGE = re.compile(rb"bytes[ \t]+([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", re.IGNORECASE)


class Part(NamedTuple):
    """Octets from ``start`` up to but excluding ``stop``, of ``total``: never empty."""

    start: int
    stop: int
    total: int

    @property
    def complete(self) -> bool:
        return self.start == 0 and self.stop == self.total

    def covers(self, wanted: bytes) -> bool:
        """Return whether the Range asks for a single span, and it lies within the part."""
        spans = conditional.parse_range(wanted, self.total)
        return spans is not None and len(spans) == 1 and self.start <= spans[0].start and spans[0].stop <= self.stop


def parse(value: bytes) -> Part | None:
    """Parse Content-Range (§14.4). None: another unit, malformed, or of unknown total length."""
    match = _CONTENT_RANGE.fullmatch(value)
    if match is None:
        return None
    first, last, total = (int(digits) for digits in match.groups())
    return Part(first, last + 1, total) if first <= last < total else None


def is_strong(etag: bytes | None) -> bool:
    return etag is not None and etag[:1] == b'"'


def join(old: Part, before: bytes, new: Part, body: bytes) -> tuple[Part, bytes] | None:
    """Join two parts of the same representation; where both have an octet, the new one counts.

    None: there is a gap between them, or their totals differ."""
    if old.total != new.total or new.stop < old.start or old.stop < new.start:
        return None
    head, tail = before[: max(0, new.start - old.start)], before[max(0, new.stop - old.start) :]
    joined = Part(min(old.start, new.start), max(old.stop, new.stop), new.total)
    return joined, head + body + tail
