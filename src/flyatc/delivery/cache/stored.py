"""Stored responses, and the hits made from them: whole, partial or not modified.

See RFC 9110 §13, §14 and RFC 9111 §4.3.2. ``Ready`` is a hit rendered in advance, all but its age. Pure, but for the
random boundary between parts, which must not be guessable.
"""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from flyatc.delivery import conditional
from flyatc.delivery.cache import partial, policy
from flyatc.delivery.cache.partial import Part
from flyatc.delivery.cache.request_key import CacheRequest, Selector, Uri, Variant
from flyatc.wire import head

# Overhead of an entry in memory besides its strings: the objects and their table slots, measured with tracemalloc, and
# malloc's overhead (the test of the cache's memory fails when this no longer holds).
ENTRY_OCTETS = 1800
VARIED_OCTETS = 100  # for each name in Vary
FORM_OCTETS = 250

_MADE_ANEW = frozenset((b"set-cookie", b"age", b"x-cache", b"content-length"))

# A 304 does not describe the stored body: these fields keep their stored values (RFC 9111 §3.2). So does ETag, below.
_OF_THE_BODY = frozenset((b"content-length", b"content-encoding", b"content-range", b"content-md5", b"content-digest"))


class Form(NamedTuple):
    """The body in a content-coding, with its header lines (as in ``StoredResponse.lines``).

    ``lines`` is empty after the entry was refreshed: then they must be derived again from the entry's."""

    lines: bytes
    body: bytes


class File(NamedTuple):
    """A file that the app named to be sent as the body, as it was then. ``modified``: nanoseconds since 1970."""

    path: bytes
    modified: int
    size: int


class StoredResponse(NamedTuple):
    """``lines``: header lines, each preceded by CR LF; ``file``: None if there is a body; ``part``: of the body that
    the app sent, without Content-Range in ``lines``; None for the whole."""

    status: int
    reason: bytes
    lines: bytes
    body: bytes
    file: File | None
    part: Part | None = None


class Entry:
    """A cache entry.

    ``received``: Unix seconds; ``forms``: by content-coding, added by ``Cache.keep_form``; ``octets``: memory used,
    forms included; ``date``: of the response, Unix seconds."""

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
        """True if stored from a HEAD: cannot serve a GET."""
        return self.selector[0] == b"HEAD"

    def covers(self, asked: CacheRequest) -> bool:
        """Return whether a part serves the request for a range."""
        fields, part = asked.fields, self.answer.part
        holds = conditional.range_holds(fields.get(b"if-range"), self.validators, self.date)
        return part is not None and holds and part.covers(fields[b"range"])

    def adopt(self, forms: Mapping[bytes, Form]) -> None:
        """Take over the encoded bodies of an entry that this one replaces."""
        for coding, form in forms.items():
            self.forms[coding] = Form(b"", form.body)
            self.octets += FORM_OCTETS + len(form.body)

    def contradicts(self, came: head.ResponseHead) -> bool:
        """Return whether the response to a HEAD shows that the entry is outdated (RFC 9111 §4.3.5)."""
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
        """Header lines that the cache adds to a hit. ``how``: parameters of Cache-Status (RFC 9211)."""
        return b"\r\nAge: %d\r\nCache-Status: flyatc%b\r\nX-Cache: hit" % (self.age(now), how)

    def hit(self, now: float) -> bytes:
        """``cache_lines`` for a hit without a request to the app."""
        return self.cache_lines(now, b"; hit; ttl=%d" % (self.terms.lifetime - self.age(now)))


def lines(kept: list[bytes], terms: policy.Terms, received: float, length: int | None) -> bytes:
    """The header lines to store, always with a Date (RFC 9110 §6.6.1). ``length``: the Content-Length, or None."""
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
    """Stored header lines, updated with those of a 304 (RFC 9111 §3.2). Cookies are left out: they are one client's."""
    old = conditional.lines([stored])
    keeps = {*_OF_THE_BODY, b"set-cookie", *(name for name, _ in old if name == b"etag")}
    new = [(name, line) for name, line in conditional.lines(kept) if name not in keeps]
    replaced = {b"date", *(name for name, _ in new)}  # a 304 without Date was made now
    return b"".join([line for name, line in old if name not in replaced] + [line for _, line in new])


def join(stored: Entry, made: Entry, most: int) -> StoredResponse | None:
    """The response of which both are parts (``stored`` may be the whole), or None: they must have the same strong ETag
    (RFC 9111 §3.4), and no gap between them. ``most``: octets of its body."""
    old, new = stored.answer, made.answer
    if not partial.is_strong(made.validators.etag) or made.validators.etag != stored.validators.etag:
        return None
    if new.part is None or old.file is not None:
        return None
    length = len(old.body)
    found = partial.join(old.part or Part(0, length, length), old.body, new.part, new.body)
    if found is None or len(found[1]) > most:
        return None
    part, body = found
    fields = merged(
        b"".join([line for name, line in conditional.lines([old.lines]) if name != b"content-length"]), [new.lines]
    )
    if not part.complete:
        return StoredResponse(206, new.reason, fields, body, None, part)
    return StoredResponse(200, b"OK", fields + b"\r\nContent-Length: %d" % len(body), body, None)


MOST = 4  # per URI: most browsers send the same Accept-Encoding
OCTETS = 400  # memory overhead of one besides its strings


class Ready:
    """A pre-rendered whole response, usable while it is fresh.

    ``variant``: of the requests that it is for; ``settings``: of compression, compared by identity; ``body``: the
    entry's, or that of one of its forms; ``until``: Unix seconds."""

    __slots__ = ("_began", "_head", "_lines", "_seconds", "body", "entry", "settings", "status", "until", "variant")

    def __init__(self, stored: Entry, variant: Variant, settings: object, lines: bytes, body: bytes) -> None:
        """``lines``: header lines, as in ``CacheHit``."""
        self.entry, self.variant, self.settings, self.body = stored, variant, settings, body
        self.status = stored.answer.status
        self._lines = b"HTTP/1.1 %d %b%b" % (self.status, stored.answer.reason, lines)
        self._began, self.until = stored.received, stored.received + stored.terms.lifetime - stored.terms.age
        self._seconds: int | None = None  # age that ``_head`` was rendered for; below 0 if the clock was set back
        self._head = b""

    @property
    def octets(self) -> int:
        """Memory used, without the body, which is the entry's."""
        return OCTETS + 2 * len(self._lines) + len(self.variant[0] or b"") + sum(map(len, self.variant[1]))

    def head(self, now: float) -> bytes:
        """As ``CacheHit.head``; rendered once a second."""
        seconds = int(now - self._began)
        if seconds != self._seconds:
            self._seconds, self._head = seconds, self._lines + self.entry.hit(now)
        return self._head


_NOT_IN_304 = frozenset(
    (b"content-type", b"content-length", b"content-encoding", b"content-language", b"content-range")
)
_NOT_IN_PART = frozenset((b"content-length", b"content-range"))
_NOT_IN_PARTS = frozenset((*_NOT_IN_PART, b"content-type"))
_NOT_IN_416 = frozenset((*_NOT_IN_304, b"etag", b"last-modified"))
_REASONS = {206: b"Partial Content", 304: b"Not Modified", 416: b"Range Not Satisfiable"}
_random = Random()  # noqa: S311 - seeded by the system; guessing it only garbles one's own download


class CacheHit:
    """A response from the store.

    ``lines``: header lines, each preceded by CR LF, framing included; ``cache_lines``: lines that the cache adds (Age,
    Cache-Status, X-Cache, and the cookies of a 304 meant for this client); ``body``: empty for HEAD; ``file``: the file
    to send instead of a body (its sender handles conditions and ranges); ``whole``: True if ``body`` is the entry's
    whole body, so that one of ``entry.forms`` may replace it (``encode``); ``refresh``: the entry is stale, and
    ``Cache.refresh`` must be called to revalidate it in the background; ``plain``: the request, if the response depends
    on nothing but its variant (see ``Cache.keep_ready``)."""

    __slots__ = ("body", "cache_lines", "entry", "file", "lines", "plain", "reason", "refresh", "status", "whole")

    def __init__(self, entry: Entry, cache_lines: bytes) -> None:
        answer = entry.answer
        self.entry, self.cache_lines = entry, cache_lines
        self.status, self.reason, self.file = answer.status, answer.reason, answer.file
        self.lines, self.body = answer.lines, answer.body
        self.whole = answer.file is None and answer.part is None and not entry.body_less
        self.refresh = False
        self.plain: CacheRequest | None = None

    def head(self) -> bytes:
        """The head, without the lines that belong to the client's connection and the final empty line."""
        return b"HTTP/1.1 %d %b%b%b" % (self.status, self.reason, self.lines, self.cache_lines)

    def encode(self, form: Form, *, head_only: bool) -> None:
        """Replace the body by ``form``, one of the entry's, with its lines."""
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
    if status < 300 and asked.conditional and known(entry, asked):
        served._become(304, _NOT_IN_304, b"", b"")
    elif status == 206 or (status == 200 and method == b"GET" and asked.ranged):
        _cut(served, asked)
    if method == b"HEAD":
        served.body = b""
    return served


def known(entry: Entry, asked: CacheRequest) -> bool:
    """Return whether the client has the response already. Date replaces a missing Last-Modified (RFC 9111 §4.3.2)."""
    having = entry.validators
    if having.modified is None:
        having = having._replace(modified=entry.date)
    return conditional.judge(asked.fields, asked.head.method, having).status == 304


def _cut(served: CacheHit, asked: CacheRequest) -> None:
    body, entry = served.body, served.entry
    part = entry.answer.part
    if part is None:
        if not conditional.range_holds(asked.fields.get(b"if-range"), entry.validators, entry.date):
            return
        part = Part(0, len(body), len(body))
    length = part.total
    spans = conditional.parse_range(asked.fields[b"range"], length)
    if spans is None:
        return
    if not spans:
        more = b"\r\nContent-Range: %b\r\nContent-Length: 0" % conditional.unsatisfied(length)
        served._become(416, _NOT_IN_416, more, b"")
    elif len(spans) == 1:
        (span,) = spans
        more = b"\r\nContent-Range: %b\r\nContent-Length: %d" % (
            conditional.content_range(span, length),
            span.stop - span.start,
        )
        served._become(206, _NOT_IN_PART, more, body[span.start - part.start : span.stop - part.start])
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
