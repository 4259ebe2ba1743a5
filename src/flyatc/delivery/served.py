"""Answers made of what is stored: whole, a part, not modified (RFC 9110 §13, §14; RFC 9111 §4.3.2). Pure but for the
boundary between parts, which nobody may guess."""

from random import Random

from flyatc.delivery import conditions, fields, ranges
from flyatc.delivery.asked import Asked
from flyatc.delivery.entry import Entry, Form

_NOT_IN_304 = frozenset(
    (b"content-type", b"content-length", b"content-encoding", b"content-language", b"content-range")
)
_NOT_IN_PART = frozenset((b"content-length",))
_NOT_IN_PARTS = frozenset((b"content-length", b"content-type"))
_NOT_IN_416 = frozenset((*_NOT_IN_304, b"etag", b"last-modified"))
_REASONS = {206: b"Partial Content", 304: b"Not Modified", 416: b"Range Not Satisfiable"}
_random = Random()  # noqa: S311 - seeded by the system; a guess wins nothing but a garbled download of one's own


class Served:
    """An answer from the store.

    ``lines``: header lines, each begun by CR LF, framing included; ``told``: the lines which the cache adds (Age,
    Cache-Status, X-Cache, and the cookies of a 304 meant for this visitor); ``body``: empty for HEAD; ``file``: what
    to send instead of a body (conditions and ranges are then for whoever sends it); ``whole``: the entry's whole
    body, so that one of ``entry.forms`` may take its place (``encode``); ``refresh``: it is stale, and
    ``Cache.refresh`` is to be called, to have it revalidated in the background; ``plain``: the request, where what is
    sent of it depends on nothing but its Accept-Encoding (see ``Cache.keep_ready``)."""

    __slots__ = ("body", "entry", "file", "lines", "plain", "reason", "refresh", "status", "told", "whole")

    def __init__(self, entry: Entry, told: bytes) -> None:
        answer = entry.answer
        self.entry, self.told = entry, told
        self.status, self.reason, self.file = answer.status, answer.reason, answer.file
        self.lines, self.body = answer.lines, answer.body
        self.whole = answer.file is None and not entry.body_less
        self.refresh = False
        self.plain: Asked | None = None

    def head(self) -> bytes:
        """All of the head but what belongs to the visitor's connection, and the empty line."""
        return b"HTTP/1.1 %d %b%b%b" % (self.status, self.reason, self.lines, self.told)

    def encode(self, form: Form, *, head_only: bool) -> None:
        """``form``: one of the entry's, with its lines."""
        self.lines, self.body = form.lines, b"" if head_only else form.body

    def _become(self, status: int, without: frozenset[bytes], more: bytes, body: bytes) -> None:
        self.status, self.reason, self.whole = status, _REASONS[status], False
        kept = b"".join([line for name, line in fields.lines([self.lines]) if name not in without])
        self.lines, self.body = kept + more, body


def serve(entry: Entry, asked: Asked, told: bytes) -> Served:
    served = Served(entry, told)
    if served.file is not None:
        return served
    method, status = asked.head.method, served.status
    if status < 300 and asked.conditional and _known(entry, asked):
        served._become(304, _NOT_IN_304, b"", b"")
    elif status == 200 and method == b"GET" and asked.ranged:
        _cut(served, asked)
    if method == b"HEAD":
        served.body = b""
    return served


def _known(entry: Entry, asked: Asked) -> bool:
    """Whether the visitor has it already. Without a Last-Modified, its Date stands for it (RFC 9111 §4.3.2)."""
    having = entry.validators
    if having.modified is None:
        having = having._replace(modified=entry.date)
    return conditions.judge(asked.fields, asked.head.method, having).status == 304


def _cut(served: Served, asked: Asked) -> None:
    body, entry = served.body, served.entry
    if not conditions.range_holds(asked.fields.get(b"if-range"), entry.validators, entry.date):
        return
    spans = ranges.read(asked.fields[b"range"], len(body))
    if spans is None:
        return
    length = len(body)
    if not spans:
        more = b"\r\nContent-Range: %b\r\nContent-Length: 0" % ranges.unsatisfied(length)
        served._become(416, _NOT_IN_416, more, b"")
    elif len(spans) == 1:
        (span,) = spans
        more = b"\r\nContent-Range: %b\r\nContent-Length: %d" % (
            ranges.content_range(span, length),
            span.stop - span.start,
        )
        served._become(206, _NOT_IN_PART, more, body[span.start : span.stop])
    else:
        _parts(served, spans)


def _parts(served: Served, spans: list[ranges.Span]) -> None:
    body = served.body
    kind = fields.read([served.lines]).get(b"content-type")
    parts = ranges.multipart(spans, len(body), kind, b"%032x" % _random.getrandbits(128))
    pieces = [
        piece for head, span in zip(parts.heads, spans, strict=True) for piece in (head, body[span.start : span.stop])
    ]
    more = b"\r\nContent-Type: %b\r\nContent-Length: %d" % (parts.kind, parts.length)
    served._become(206, _NOT_IN_PARTS, more, b"".join([*pieces, parts.end]))
