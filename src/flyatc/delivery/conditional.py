"""Conditional requests (RFC 9110 §13), HTTP dates (§5.6.7), byte ranges (§14) and parsing of header fields. Pure.

Header fields are parsed from the raw lines of a head (``wire.head.Head.kept``). Section numbers refer to RFC 9110.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

_LONGEST = 8192  # octets of a list of entity tags; a longer one matches nothing
_TAG = re.compile(rb'(?:W/)?"[!#-~\x80-\xff]*"')


class Validators(NamedTuple):
    """``etag``: as in the header, quoted, with ``W/`` if weak; ``modified``: Last-Modified, Unix seconds."""

    etag: bytes | None = None
    modified: int | None = None


class Verdict(NamedTuple):
    """``status``: 0 (go on), 304 or 412."""

    status: int
    reason: str


GO_ON = Verdict(0, "no condition forbids it")


def judge(fields: Mapping[bytes, bytes], method: bytes, having: Validators) -> Verdict:
    """Evaluate the request's conditions in order (§13.2.2), for a resource whose response would be 2xx.

    ``fields``: as from ``parse_fields``. Range and If-Range are evaluated after this."""
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
    """Return whether a Range may be served in part (§13.1.5); if not, serve the whole.

    ``date``: Unix seconds of the response's Date. A Last-Modified in the same second is weak: a change within it
    would not show (§8.8.2.2)."""
    if if_range is None:
        return True
    if if_range[:1] == b'"':
        return having.etag == if_range
    since = parse_date(if_range)
    return since is not None and since == having.modified and date is not None and since <= date - 1


def alike(one: bytes, other: bytes) -> bool:
    """Weak comparison of two entity tags (§8.8.3.2)."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")


def tags(value: bytes) -> list[bytes]:
    """``W/"a", "b"`` → ``[W/"a", "b"]``; malformed tags are skipped, and match nothing."""
    return _TAG.findall(value) if len(value) <= _LONGEST else []


def _weak(wanted: bytes, etag: bytes | None) -> bool:
    """``*`` matches any existing representation."""
    if wanted == b"*":
        return True
    return etag is not None and any(alike(etag, tag) for tag in tags(wanted))


def _strong(wanted: bytes, etag: bytes | None) -> bool:
    if wanted == b"*":
        return True
    return etag is not None and not etag.startswith(b"W/") and etag in tags(wanted)


def _later(modified: int | None, since: bytes) -> bool:
    """Return whether it was modified later. An invalid date, or an unknown one, is no condition (§13.1.4)."""
    limit = parse_date(since)
    return modified is not None and limit is not None and modified > limit


def _not_later(modified: int | None, since: bytes) -> bool:
    limit = parse_date(since)
    return modified is not None and limit is not None and modified <= limit


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


_LONGEST_DATE = 40


def parse_date(value: bytes) -> int | None:
    """Unix seconds of a date in any of the three forms; None if invalid (also for two dates in one value)."""
    return _read(value) if len(value) <= _LONGEST_DATE else None


@lru_cache(512)
def _read(value: bytes) -> int | None:
    match = next((m for form in _FORMS if (m := form.fullmatch(value))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 2000 if year < 70 else 1900  # this form has been out of use since about 1996
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


MOST = 32  # more ranges are an attack or a mistake: the whole is sent (§17.15)

_SPEC = re.compile(rb"(\d*)-(\d*)")


class Span(NamedTuple):
    """Octets from ``start`` up to but excluding ``stop``: never empty, within the body."""

    start: int
    stop: int


def parse_range(value: bytes, length: int) -> list[Span] | None:
    """Parse ``Range: value`` for a body of ``length`` octets.

    None: ignore it and send the whole (another unit, malformed, too many ranges, an empty body, or parts that together
    exceed the whole). An empty list: 416."""
    unit, equals, specs = value.partition(b"=")
    if specs.count(b",") > 2 * MOST:  # most of them empty, or too many
        return None
    if not equals or unit.strip(b" \t").lower() != b"bytes":
        return None
    found: list[Span] = []
    count = 0
    for spec in specs.split(b","):
        spec = spec.strip(b" \t")
        if not spec:
            continue  # lists may have empty members (§5.6.1.2)
        match = _SPEC.fullmatch(spec)
        count += 1
        if match is None or count > MOST or not _orderly(match[1], match[2]):
            return None
        span = _span(match[1], match[2], length)
        if span is not None:
            found.append(span)
    if not count or not length or sum(stop - start for start, stop in found) > length:
        return None
    return found


def _orderly(first: bytes, last: bytes) -> bool:
    return bool(first or last) and not (first and last and _number(first) > _number(last))


def _span(first: bytes, last: bytes, length: int) -> Span | None:
    """The span of one range, or None if it cannot be satisfied."""
    if not first:
        start, stop = max(0, length - _number(last)), length
    else:
        start, stop = _number(first), min(_number(last) + 1, length) if last else length
    return Span(start, stop) if start < stop else None


def _number(digits: bytes) -> int:
    """Parse a number, at most 10**18: Python refuses to parse 4301 digits."""
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= 18 else 10**18


def content_range(span: Span, length: int) -> bytes:
    return b"bytes %d-%d/%d" % (span.start, span.stop - 1, length)


def unsatisfied(length: int) -> bytes:
    """The Content-Range of a 416."""
    return b"bytes */%d" % length


class Multipart(NamedTuple):
    """A multipart/byteranges body (§14.6): before each part one of ``heads``, finally ``end``; ``length``: in total."""

    kind: bytes
    heads: list[bytes]
    end: bytes
    length: int


def multipart(spans: list[Span], length: int, kind: bytes | None, boundary: bytes) -> Multipart:
    """``kind``: the Content-Type of the whole; ``boundary``: unguessable letters and digits."""
    inner = b"" if kind is None else b"\r\nContent-Type: " + kind
    heads = [
        b"\r\n--%b%b\r\nContent-Range: %b\r\n\r\n" % (boundary, inner, content_range(span, length)) for span in spans
    ]
    end = b"\r\n--%b--\r\n" % boundary
    octets = sum(len(h) for h in heads) + sum(stop - start for start, stop in spans) + len(end)
    return Multipart(b"multipart/byteranges; boundary=" + boundary, heads, end, octets)


Fields = dict[bytes, bytes]


def parse_fields(kept: Iterable[bytes]) -> Fields:
    """Parse fields: lower-case name → value; several lines of a name are joined by ", " (§5.3).

    Joining breaks Set-Cookie, of which only the presence is used."""
    found: Fields = {}
    several: dict[bytes, list[bytes]] = {}  # joined once, at the end: linear, however many lines a name has
    for line in b"".join(kept).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in found:
            several.setdefault(name, [found[name]]).append(value)
        else:
            found[name] = value
    for name, values in several.items():
        found[name] = b", ".join(values)
    return found


def lines(kept: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Split into (lower-case name, the whole line preceded by CR LF), in order."""
    return [(line.partition(b":")[0].lower(), b"\r\n" + line) for line in b"".join(kept).split(b"\r\n")[1:]]
