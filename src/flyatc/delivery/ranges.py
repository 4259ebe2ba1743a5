"""Byte ranges (RFC 9110 §14): what was asked for, and how it is answered. Pure."""

import re
from typing import NamedTuple

MOST = 32  # more ranges than this are an attack or a mistake: they get the whole (§17.15)

_SPEC = re.compile(rb"(\d*)-(\d*)")


class Span(NamedTuple):
    """Octets ``start`` up to, not with, ``stop``: never empty, within the body."""

    start: int
    stop: int


def read(value: bytes, length: int) -> list[Span] | None:
    """The parts of a body of ``length`` octets which the header ``Range: value`` asks for.

    None: it is to be ignored, and the whole is sent (another unit, malformed, too many, an empty body, or overlapping
    so much that the parts are more than the whole). An empty list: 416."""
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
    """The part of one specification, None where it cannot be satisfied."""
    if not first:
        start, stop = max(0, length - _number(last)), length
    else:
        start, stop = _number(first), min(_number(last) + 1, length) if last else length
    return Span(start, stop) if start < stop else None


def _number(digits: bytes) -> int:
    """Python refuses to read 4301 digits, and nothing has 10**18 octets."""
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= 18 else 10**18


def content_range(span: Span, length: int) -> bytes:
    return b"bytes %d-%d/%d" % (span.start, span.stop - 1, length)


def unsatisfied(length: int) -> bytes:
    """The Content-Range of a 416."""
    return b"bytes */%d" % length


class Multipart(NamedTuple):
    """A multipart/byteranges body (§14.6): before each part one of ``heads``, at last ``end``; ``length``: of all."""

    kind: bytes
    heads: list[bytes]
    end: bytes
    length: int


def multipart(spans: list[Span], length: int, kind: bytes | None, boundary: bytes) -> Multipart:
    """``kind``: the Content-Type of the whole; ``boundary``: letters and digits which nobody can guess."""
    inner = b"" if kind is None else b"\r\nContent-Type: " + kind
    heads = [
        b"\r\n--%b%b\r\nContent-Range: %b\r\n\r\n" % (boundary, inner, content_range(span, length)) for span in spans
    ]
    end = b"\r\n--%b--\r\n" % boundary
    octets = sum(len(h) for h in heads) + sum(stop - start for start, stop in spans) + len(end)
    return Multipart(b"multipart/byteranges; boundary=" + boundary, heads, end, octets)
