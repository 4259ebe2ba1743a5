"""The heads of requests and responses, made by ``wire.head_parser``. Pure."""

import re

from flyatc.wire import header_names
from flyatc.wire.errors import BadMessage

NEVER, LENGTH, CHUNKED, UNTIL_CLOSE = "never", "length", "chunked", "until close"

_KEPT_THOUGH_NAMED = frozenset(
    (
        b"",
        *b"close content-length transfer-encoding host date connection keep-alive upgrade te".split(),
        *b"x-forwarded-for x-forwarded-host x-forwarded-proto".split(),
    )  # "Connection: X-Forwarded-For" would hide a client's address
)
_SPACE = 32  # the last of the octets that are stripped from a value
_USUAL_AGENT = b"\r\nUser-Agent: "  # the usual spelling: found in a fifth of the time
_USER_AGENT = re.compile(rb"\r\nuser-agent:[ \t]*([^\r\n]*)", re.IGNORECASE)


class Head:
    """Base of request and response heads. All values are bytes as received.

    ``kept``: the header lines to forward, in pieces, each line *begun* by CR LF; ``noted``: lower-case name → values of
    the headers in ``header_names``; ``framing`` and ``length`` of the body; ``minor``: of HTTP/1.x; ``size``: octets.
    """

    __slots__ = ("framing", "keep_alive", "kept", "length", "minor", "noted", "size")

    kept: list[bytes]
    noted: dict[bytes, list[bytes]]
    framing: str
    length: int
    minor: int
    keep_alive: bool
    size: int

    def one(self, name: bytes) -> bytes | None:
        """Return the first value of a noted header, None if there is none."""
        values = self.noted.get(name)
        return values[0] if values else None

    def joined(self, name: bytes) -> bytes | None:
        """Return all values of a noted header joined by commas (RFC 9110 §5.3), None if there is none."""
        values = self.noted.get(name)
        if values is None or len(values) == 1:
            return None if values is None else values[0]
        return b", ".join(values)

    def line(self, name: bytes) -> bytes | None:
        """Return the first value of a forwarded header (``name`` in lower case). Slow: a search."""
        block = b"".join(self.kept)
        at = block.lower().find(b"\r\n" + name + b":")
        if at < 0:
            return None
        at += len(name) + 3
        end = block.find(b"\r\n", at)
        return block[at : end if end >= 0 else len(block)].strip(b" \t")

    def every(self, name: bytes) -> list[bytes]:
        """Return all values of a forwarded header, one per line (``name`` in lower case). For rare cases."""
        block, start = b"".join(self.kept), name + b":"
        if b"\r\n" + start not in block.lower():
            return []
        lines = block.split(b"\r\n")[1:]
        return [line[len(start) :].strip(b" \t") for line in lines if line.lower().startswith(start)]

    def drop(self, *unwanted: bytes) -> None:
        """Remove headers (lower-case names) from what is forwarded, in one pass. For rare cases."""
        lines = b"".join(self.kept).split(b"\r\n")[1:]
        self.kept = [b"\r\n" + line for line in lines if line.partition(b":")[0].lower() not in unwanted]

    def note(self, data: bytes, lowered: bytes, start: int, finder: re.Pattern[bytes]) -> bool:
        """Set ``kept`` and ``noted`` from the header lines of ``data``, which begin at ``start`` with the CR LF that
        ends the first line. ``lowered``: ``data`` in lower case. Return whether a noted header is repeated."""
        kept: list[bytes] = []
        noted: dict[bytes, list[bytes]] = {}
        end, repeated, left = len(data) - 4, False, header_names.LEFT
        for match in finder.finditer(lowered, start, end):
            name, (first, last) = match[1], match.span(2)
            value = data[first:last]
            if lowered[last - 1] <= _SPACE:
                value = value.rstrip(b" \t")
            if name in noted:
                noted[name].append(value)
                repeated = True
            elif name in left or b"_" not in name:
                noted[name] = [value]
            if name not in left:
                kept.append(data[start : match.start()])
                start = last
        kept.append(data[start:end])
        self.kept, self.noted = kept, noted
        return repeated

    def apply_connection(self) -> None:
        """Apply ``Connection``: it may end the connection, and names headers that end at this hop (RFC 9110 §7.6.1).

        Each line is examined once, not once per name: there may be thousands of both. Headers of trusted proxies stay:
        a client must not be able to remove those that the proxy in front of flyatc has set."""
        named = frozenset(tokens(self.noted[b"connection"]))
        if b"close" in named:
            self.keep_alive = False
        named -= _KEPT_THOUGH_NAMED
        if not named:
            return
        lines = [(line.partition(b":")[0].lower(), line) for line in b"".join(self.kept).split(b"\r\n")[1:]]
        gone = {name for name in (*self.noted, *(name for name, _ in lines)) if name in named}
        gone = {name for name in gone if not header_names.is_reserved(name)}
        if gone:
            self.kept = [b"\r\n" + line for name, line in lines if name not in gone]
            self.noted = {name: values for name, values in self.noted.items() if name not in gone}


class RequestHead(Head):
    """The head of a client's request. ``upgrade``: the requested protocols, None if no upgrade is possible; ``whole``:
    the head as it came, without its empty line, if the app may get it as it is but for added lines; else None."""

    __slots__ = ("method", "path", "query", "upgrade", "whole")

    method: bytes
    whole: bytes | None
    path: bytes
    query: bytes | None
    upgrade: bytes | None

    def drop(self, *unwanted: bytes) -> None:
        super().drop(*unwanted)
        self.whole = None

    def set_host(self, host: bytes) -> None:
        """Replace ``Host`` by the host named in the target, which takes precedence (RFC 9112 §3.2.2)."""
        self.drop(b"host")
        self.noted[b"host"] = [host]
        self.kept.append(b"\r\nHost: " + host)

    def merge_repeated(self) -> None:
        """Merge equal repeats of the headers in ``header_names.SINGLE`` into one. Raises BadMessage if they differ: the
        app might use another value than the one that a proxy has checked."""
        for name in header_names.SINGLE:
            values = self.noted.get(name, ())
            if len(values) < 2:
                continue
            if values.count(values[0]) < len(values):
                raise BadMessage(400, f"several {name.decode().title()} headers that differ")
            self.drop(name)
            self.noted[name] = values[:1]
            self.kept.append(b"\r\n%b: %b" % (name.title(), values[0]))

    @property
    def user_agent(self) -> bytes | None:
        for piece in self.kept:
            at = piece.find(_USUAL_AGENT)
            if at >= 0:
                end = piece.find(b"\r", at + 14)
                return (piece[at + 14 : end] if end >= 0 else piece[at + 14 :]).lstrip(b" \t")
        for piece in self.kept:
            if (match := _USER_AGENT.search(piece)) is not None:
                return match[1]
        return None


class ResponseHead(Head):
    """The head of an app's response. ``lowered``: as it came, in lower case."""

    __slots__ = ("dated", "lowered", "reason", "status")

    status: int
    lowered: bytes
    reason: bytes
    dated: bool  # whether it has a Date


def tokens(values: list[bytes] | tuple[bytes, ...]) -> list[bytes]:
    """Split lists of tokens: ``[b"keep-alive, Upgrade"]`` → ``[b"keep-alive", b"upgrade"]``."""
    return [*map(bytes.strip, b",".join(values).lower().split(b","))]
