"""A stored answer. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from flyatc.delivery import conditions, dates, fields, freshness, storing
from flyatc.delivery.asked import Selector, Uri
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


class Answer(NamedTuple):
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
        answer: Answer,
        named: Mapping[bytes, bytes],
        terms: storing.Terms,
        received: float,
    ) -> None:
        """``named``: the fields in ``answer.lines``."""
        self.uri, self.selector, self.answer = uri, selector, answer
        self.terms, self.received = terms, received
        date = dates.read(named.get(b"date", b""))
        self.date = int(received) if date is None else date
        self.validators = conditions.Validators(named.get(b"etag"), dates.read(named.get(b"last-modified", b"")))
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

    def contradicts(self, came: head.AnswerHead) -> bool:
        """Whether the answer to a HEAD shows that the resource is no longer what is stored (RFC 9111 §4.3.5)."""
        named = fields.read(came.kept)
        etag, modified = self.validators
        return (
            named.get(b"etag") != etag
            or dates.read(named.get(b"last-modified", b"")) != modified
            or (self.answer.file is None and came.length != len(self.answer.body) and b"content-length" in came.noted)
        )

    def age(self, now: float) -> int:
        return freshness.age(self.terms.age, self.received, now)

    def told(self, now: float, how: bytes) -> bytes:
        """The header lines that the cache adds where this is sent. ``how``: parameters of Cache-Status (RFC 9211)."""
        return b"\r\nAge: %d\r\nCache-Status: flyatc%b\r\nX-Cache: hit" % (self.age(now), how)

    def hit(self, now: float) -> bytes:
        """``told``, where the app is not asked."""
        return self.told(now, b"; hit; ttl=%d" % (self.terms.lifetime - self.age(now)))


def lines(kept: list[bytes], terms: storing.Terms, received: float, length: int | None) -> bytes:
    """What is kept of header lines, and a Date in any case (RFC 9110 §6.6.1). ``length``: the Content-Length, if
    any."""
    found = [(name, line) for name, line in fields.lines(kept) if name not in _MADE_ANEW and name not in terms.hidden]
    texts = [line for _, line in found]
    if not any(name == b"date" for name, _ in found):
        texts.append(b"\r\nDate: " + dates.write(received))
    if length is not None:
        texts.append(b"\r\nContent-Length: %d" % length)
    return b"".join(texts)


def cookies(kept: list[bytes]) -> bytes:
    return b"".join([line for name, line in fields.lines(kept) if name == b"set-cookie"])


def merged(stored: bytes, kept: list[bytes]) -> bytes:
    """Stored header lines, replaced by those of a 304 which have the same names (RFC 9111 §3.2). No cookies: they are
    one visitor's."""
    new = [(name, line) for name, line in fields.lines(kept) if name not in _OF_THE_BODY and name != b"set-cookie"]
    replaced = {b"date", *(name for name, _ in new)}  # one which is not dated, was made now
    old = [line for name, line in fields.lines([stored]) if name not in replaced]
    return b"".join(old + [line for _, line in new])
