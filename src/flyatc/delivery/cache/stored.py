"""A stored answer. Pure.

Hits that are put together already: for a request which asks for nothing special the answer lies there, all but its
age. Pure.

Answers made of what is stored: whole, a part, not modified (RFC 9110 §13, §14; RFC 9111 §4.3.2). Pure but for the
boundary between parts, which nobody may guess.
"""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from flyatc.delivery import conditional
from flyatc.delivery.cache import policy
from flyatc.delivery.cache.request_key import CacheRequest, Selector, Uri
from flyatc.wire import head

# What Python keeps for an entry besides the octets of its texts: the objects themselves and their places in our tables,
# measured with tracemalloc, and what malloc adds (the test of the cache's memory tells when this is no longer true).
ENTRY_OCTETS = 1800
VARIED_OCTETS = 100  # for each name in Vary
FORM_OCTETS = 250

_MADE_ANEW = frozenset((b"set-cookie", b"age", b"x-cache", b"content-length"))

# A 304 says nothing about the body that was stored: these stay what they were (RFC 9111 §3.2).
_OF_THE_BODY = frozenset((b"content-length", b"content-encoding", b"content-range"))


class Form(NamedTuple):
    """The body in a content-coding, with the header lines that go with it (as in ``Entry.lines``).

    ``lines`` is empty after the entry was freshened: then they have to be made anew from the entry's."""

    lines: bytes
    body: bytes


class File(NamedTuple):
    """What the app named to be sent instead of a body, and how it was then. ``modified``: nanoseconds since 1970."""

    path: bytes
    modified: int
    size: int


class StoredResponse(NamedTuple):
    """``lines``: header lines, each begun by CR LF; ``file``: None where there is a body."""

    status: int
    reason: bytes
    lines: bytes
    body: bytes
    file: File | None


class Entry:
    """``received``: Unix seconds; ``forms``: by content-coding, added by ``Cache.keep_form``; ``octets``: what it
    costs in memory, with its forms; ``date``: of the answer, Unix seconds."""

    __slots__ = (
        "answer", "date", "forms", "octets", "received", "selector", "terms", "uri", "validators",
    )  # fmt: skip

    def __init__(
        self,
        uri: Uri,
        selector: Selector,
        answer: StoredResponse,
        named: Mapping[bytes, bytes],
        terms: policy.Terms,
        received: float,
    ) -> None:
        """``named``: the fields in ``answer.lines``."""
        self.uri, self.selector, self.answer = uri, selector, answer
        self.terms, self.received = terms, received
        date = conditional.parse_date(named.get(b"date", b""))
        self.date = int(received) if date is None else date
        self.validators = conditional.Validators(
            named.get(b"etag"), conditional.parse_date(named.get(b"last-modified", b""))
        )
        self.forms: dict[bytes, Form] = {}
        path = None if answer.file is None else answer.file.path
        texts = (*uri[1:3], uri[3], *selector[1], *selector[3], answer.lines, answer.body, path)
        fixed = ENTRY_OCTETS + VARIED_OCTETS * len(selector[3])
        texts = (*texts, *terms.varies, *terms.hidden, self.validators.etag)
        self.octets = fixed + sum(len(text) for text in texts if text is not None)

    @property
    def body_less(self) -> bool:
        """Stored from a HEAD: good for no GET."""
        return self.selector[0] == b"HEAD"

    def adopt(self, forms: Mapping[bytes, Form]) -> None:
        """Takes over the bodies of the forms of an entry which this one replaces."""
        for coding, form in forms.items():
            self.forms[coding] = Form(b"", form.body)
            self.octets += FORM_OCTETS + len(form.body)

    def contradicts(self, came: head.ResponseHead) -> bool:
        """Whether the answer to a HEAD shows that the resource is no longer what is stored (RFC 9111 §4.3.5)."""
        named = conditional.parse_fields(came.kept)
        etag, modified = self.validators
        return (
            named.get(b"etag") != etag
            or conditional.parse_date(named.get(b"last-modified", b"")) != modified
            or (self.answer.file is None and came.length != len(self.answer.body) and b"content-length" in came.noted)
        )

    def age(self, now: float) -> int:
        return policy.age(self.terms.age, self.received, now)

    def cache_lines(self, now: float, how: bytes) -> bytes:
        """The header lines that the cache adds where this is sent. ``how``: parameters of Cache-Status (RFC 9211)."""
        return b"\r\nAge: %d\r\nCache-Status: flyatc%b\r\nX-Cache: hit" % (self.age(now), how)

    def hit(self, now: float) -> bytes:
        """``cache_lines``, where the app is not asked."""
        return self.cache_lines(now, b"; hit; ttl=%d" % (self.terms.lifetime - self.age(now)))


def lines(kept: list[bytes], terms: policy.Terms, received: float, length: int | None) -> bytes:
    """What is kept of header lines, and a Date in any case (RFC 9110 §6.6.1). ``length``: the Content-Length, if
    any."""
    found = [
        (name, line) for name, line in conditional.lines(kept) if name not in _MADE_ANEW and name not in terms.hidden
    ]
    texts = [line for _, line in found]
    if not any(name == b"date" for name, _ in found):
        texts.append(b"\r\nDate: " + conditional.write(received))
    if length is not None:
        texts.append(b"\r\nContent-Length: %d" % length)
    return b"".join(texts)


def cookies(kept: list[bytes]) -> bytes:
    return b"".join([line for name, line in conditional.lines(kept) if name == b"set-cookie"])


def merged(stored: bytes, kept: list[bytes]) -> bytes:
    """Stored header lines, replaced by those of a 304 which have the same names (RFC 9111 §3.2). No cookies: they are
    one visitor's."""
    new = [(name, line) for name, line in conditional.lines(kept) if name not in _OF_THE_BODY and name != b"set-cookie"]
    replaced = {b"date", *(name for name, _ in new)}  # one which is not dated, was made now
    old = [line for name, line in conditional.lines([stored]) if name not in replaced]
    return b"".join(old + [line for _, line in new])


MOST = 4  # of one address: browsers of a kind all say the same in Accept-Encoding
OCTETS = 400  # what Python keeps for one besides the octets of its texts


class Ready:
    """A whole answer while it is fresh. ``accepted``: the Accept-Encoding for which it is, None: without one;
    ``settings``: the compression's, compared by identity; ``body``: the entry's, or that of one of its forms."""

    __slots__ = ("_began", "_head", "_lines", "_seconds", "_until", "accepted", "body", "entry", "settings")

    def __init__(self, stored: Entry, accepted: bytes | None, settings: object, lines: bytes, body: bytes) -> None:
        """``lines``: header lines, as in ``Served``."""
        self.entry, self.accepted, self.settings, self.body = stored, accepted, settings, body
        self._lines = b"HTTP/1.1 %d %b%b" % (stored.answer.status, stored.answer.reason, lines)
        self._began, self._until = stored.received, stored.received + stored.terms.lifetime - stored.terms.age
        self._seconds: int | None = None  # for which ``_head`` is; below 0 where the clock was put back
        self._head = b""

    @property
    def octets(self) -> int:
        """Of memory; the body is the entry's."""
        return OCTETS + 2 * len(self._lines) + len(self.accepted or b"")

    def serves(self, settings: object, now: float) -> bool:
        return now < self._until and self.settings is settings

    def head(self, now: float) -> bytes:
        """As ``Served.head``; put together once a second."""
        seconds = int(now - self._began)
        if seconds != self._seconds:
            self._seconds, self._head = seconds, self._lines + self.entry.hit(now)
        return self._head


_NOT_IN_304 = frozenset(
    (b"content-type", b"content-length", b"content-encoding", b"content-language", b"content-range")
)
_NOT_IN_PART = frozenset((b"content-length",))
_NOT_IN_PARTS = frozenset((b"content-length", b"content-type"))
_NOT_IN_416 = frozenset((*_NOT_IN_304, b"etag", b"last-modified"))
_REASONS = {206: b"Partial Content", 304: b"Not Modified", 416: b"Range Not Satisfiable"}
_random = Random()  # noqa: S311 - seeded by the system; a guess wins nothing but a garbled download of one's own


class CacheHit:
    """A response from the store.

    ``lines``: header lines, each preceded by CR LF, framing included; ``cache_lines``: lines that the cache adds (Age,
    Cache-Status, X-Cache, and the cookies of a 304 meant for this client); ``body``: empty for HEAD; ``file``: the file
    to send instead of a body (its sender handles conditions and ranges); ``whole``: True if ``body`` is the entry's
    whole body, so that one of ``entry.forms`` may replace it (``encode``); ``refresh``: the entry is stale, and
    ``Cache.refresh`` must be called to revalidate it in the background; ``plain``: the request, if the response depends
    on nothing but its Accept-Encoding (see ``Cache.keep_ready``)."""

    __slots__ = ("body", "cache_lines", "entry", "file", "lines", "plain", "reason", "refresh", "status", "whole")

    def __init__(self, entry: Entry, cache_lines: bytes) -> None:
        answer = entry.answer
        self.entry, self.cache_lines = entry, cache_lines
        self.status, self.reason, self.file = answer.status, answer.reason, answer.file
        self.lines, self.body = answer.lines, answer.body
        self.whole = answer.file is None and not entry.body_less
        self.refresh = False
        self.plain: CacheRequest | None = None

    def head(self) -> bytes:
        """All of the head but what belongs to the visitor's connection, and the empty line."""
        return b"HTTP/1.1 %d %b%b%b" % (self.status, self.reason, self.lines, self.cache_lines)

    def encode(self, form: Form, *, head_only: bool) -> None:
        """``form``: one of the entry's, with its lines."""
        self.lines, self.body = form.lines, b"" if head_only else form.body

    def _become(self, status: int, without: frozenset[bytes], more: bytes, body: bytes) -> None:
        self.status, self.reason, self.whole = status, _REASONS[status], False
        kept = b"".join([line for name, line in conditional.lines([self.lines]) if name not in without])
        self.lines, self.body = kept + more, body


def serve(entry: Entry, asked: CacheRequest, cache_lines: bytes) -> CacheHit:
    served = CacheHit(entry, cache_lines)
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


def _known(entry: Entry, asked: CacheRequest) -> bool:
    """Whether the visitor has it already. Without a Last-Modified, its Date stands for it (RFC 9111 §4.3.2)."""
    having = entry.validators
    if having.modified is None:
        having = having._replace(modified=entry.date)
    return conditional.judge(asked.fields, asked.head.method, having).status == 304


def _cut(served: CacheHit, asked: CacheRequest) -> None:
    body, entry = served.body, served.entry
    if not conditional.range_holds(asked.fields.get(b"if-range"), entry.validators, entry.date):
        return
    spans = conditional.parse_range(asked.fields[b"range"], len(body))
    if spans is None:
        return
    length = len(body)
    if not spans:
        more = b"\r\nContent-Range: %b\r\nContent-Length: 0" % conditional.unsatisfied(length)
        served._become(416, _NOT_IN_416, more, b"")
    elif len(spans) == 1:
        (span,) = spans
        more = b"\r\nContent-Range: %b\r\nContent-Length: %d" % (
            conditional.content_range(span, length),
            span.stop - span.start,
        )
        served._become(206, _NOT_IN_PART, more, body[span.start : span.stop])
    else:
        _parts(served, spans)


def _parts(served: CacheHit, spans: list[conditional.Span]) -> None:
    body = served.body
    kind = conditional.parse_fields([served.lines]).get(b"content-type")
    parts = conditional.multipart(spans, len(body), kind, b"%032x" % _random.getrandbits(128))
    pieces = [
        piece for head, span in zip(parts.heads, spans, strict=True) for piece in (head, body[span.start : span.stop])
    ]
    more = b"\r\nContent-Type: %b\r\nContent-Length: %d" % (parts.kind, parts.length)
    served._become(206, _NOT_IN_PARTS, more, b"".join([*pieces, parts.end]))
