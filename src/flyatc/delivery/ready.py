"""Hits that are put together already: for a request which asks for nothing special the answer lies there, all but its
age. Pure."""

from flyatc.delivery.entry import Entry

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
