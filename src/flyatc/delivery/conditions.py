"""Conditional requests (RFC 9110 §13): for the cache, for files. Pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from flyatc.delivery import dates

_LONGEST = 8192  # octets of a list of entity tags; a longer one matches nothing
_TAG = re.compile(rb'(?:W/)?"[!#-~\x80-\xff]*"')


class Validators(NamedTuple):
    """``etag``: as in the header, quoted, with ``W/`` where it is weak; ``modified``: Last-Modified, Unix seconds."""

    etag: bytes | None = None
    modified: int | None = None


class Verdict(NamedTuple):
    """``status``: 0 (go on), 304 or 412."""

    status: int
    reason: str


GO_ON = Verdict(0, "no condition stands against it")


def judge(fields: Mapping[bytes, bytes], method: bytes, having: Validators) -> Verdict:
    """Weighs the request's conditions in their order (§13.2.2) against what exists and would be answered with 2xx.

    ``fields``: lower-case names to values, as ``fields.read`` makes them. Range and If-Range come after this."""
    if (wanted := fields.get(b"if-match")) is not None:
        if not _strong(wanted, having.etag):
            return Verdict(412, "If-Match does not match")
    elif (wanted := fields.get(b"if-unmodified-since")) is not None and _later(having.modified, wanted):
        return Verdict(412, "modified since If-Unmodified-Since")
    reading = method in (b"GET", b"HEAD")
    if (known := fields.get(b"if-none-match")) is not None:
        if not _weak(known, having.etag):
            return GO_ON
        return Verdict(304 if reading else 412, "If-None-Match matches")
    if reading and (since := fields.get(b"if-modified-since")) is not None and _not_later(having.modified, since):
        return Verdict(304, "not modified since If-Modified-Since")
    return GO_ON


def range_holds(if_range: bytes | None, having: Validators, date: float | None) -> bool:
    """Whether a Range may be answered with a part (§13.1.5); where not, with the whole.

    ``date``: Unix seconds of the answer's Date. A Last-Modified of that very second is weak: a second change within it
    would not show (§8.8.2.2)."""
    if if_range is None:
        return True
    if if_range[:1] == b'"':
        return having.etag == if_range
    since = dates.read(if_range)
    return since is not None and since == having.modified and date is not None and since <= date - 1


def alike(one: bytes, other: bytes) -> bool:
    """Weak comparison of two entity tags (§8.8.3.2)."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")


def tags(value: bytes) -> list[bytes]:
    """``W/"a", "b"`` → ``[W/"a", "b"]``; what is no entity tag is passed over, and so matches nothing."""
    return _TAG.findall(value) if len(value) <= _LONGEST else []


def _weak(wanted: bytes, etag: bytes | None) -> bool:
    """``*`` is any that exists."""
    if wanted == b"*":
        return True
    return etag is not None and any(alike(etag, tag) for tag in tags(wanted))


def _strong(wanted: bytes, etag: bytes | None) -> bool:
    if wanted == b"*":
        return True
    return etag is not None and not etag.startswith(b"W/") and etag in tags(wanted)


def _later(modified: int | None, since: bytes) -> bool:
    """Whether it was modified later. What is no date, or has none, is no condition (§13.1.4)."""
    limit = dates.read(since)
    return modified is not None and limit is not None and modified > limit


def _not_later(modified: int | None, since: bytes) -> bool:
    limit = dates.read(since)
    return modified is not None and limit is not None and modified <= limit
