"""Parse and validate request and response heads (RFC 9112 §2-§6). llhttp checks the grammar. Pure.

Conflicting or malformed heads are refused, never interpreted: a guess would allow request smuggling.
"""

import re

import httptools

from flyatc.wire import header_names, target
from flyatc.wire.errors import BadMessage

NEVER, LENGTH, CHUNKED, UNTIL_CLOSE = "never", "length", "chunked", "until close"

_STAYS = [b"keep-alive"]  # as browsers send it
_KEPT_THOUGH_NAMED = frozenset(
    (
        b"",
        *b"close content-length transfer-encoding host date connection keep-alive upgrade te".split(),
        *b"x-forwarded-for x-forwarded-host x-forwarded-proto".split(),
    )  # "Connection: X-Forwarded-For" would hide a client's address
)
MOST_LINES = 1000  # of a head: bounds the work per line to milliseconds, whatever the size limit of a head
_FEW = 4 * MOST_LINES  # octets: a shorter head cannot have more lines ("a:" and CR LF)
_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_SPACES = (b" ", b"\t")
_NO_LINE = (b"", b"", b"")
_STATUS = {
    "Invalid method encountered": 501,
    "Invalid HTTP version": 505,
}


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
            if value[-1:] in _SPACES:
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
        if self.noted[b"connection"] == _STAYS:
            return
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


class _Silent:
    """A protocol for httptools without callbacks: calls for each header would cost more than the grammar check.

    The callbacks are None because a missing attribute costs httptools an exception for each parser."""

    on_message_begin = on_url = on_status = on_header = on_headers_complete = on_body = None
    on_message_complete = on_chunk_header = on_chunk_complete = None


_silent = _Silent()


class RequestParser:
    """Parses the request heads of one connection."""

    __slots__ = ("_hosts", "_parser")

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser | None = None
        self._hosts: list[bytes] = []  # the last valid Host

    def parse(self, data: bytes) -> RequestHead:
        """Parse ``data``: one head, up to and including its empty line. Raises BadMessage."""
        if len(data) > _FEW:
            _count_lines(data, 431)
        parser = self._parser or httptools.HttpRequestParser(_silent)
        self._parser = None
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise BadMessage(_STATUS.get(str(error), 400), str(error)) from error
        end = data.find(b"\r\n")
        parts = data[:end].split(b" ")
        method, aim, version = parts if len(parts) == 3 else _NO_LINE
        if version != b"HTTP/1.1" or not aim or method == b"PRI":
            target.check_line(data[:end])
        head = RequestHead()
        head.method, head.size = method, len(data)
        head.minor = 1 if version == b"HTTP/1.1" else 0
        head.keep_alive = head.minor == 1
        head.upgrade = None
        repeated = head.note(data, data.lower(), end, header_names.IN_REQUEST)
        in_origin_form = aim[:1] == b"/" and b"#" not in aim
        head.whole = data[:-4] if len(head.kept) == 1 and head.minor and in_origin_form else None
        if repeated:
            head.merge_repeated()
        head.framing, head.length = NEVER, 0
        noted = head.noted
        if b"content-length" in noted or b"transfer-encoding" in noted or b"connection" in noted:
            self._apply(head)
            noted = head.noted
        if head.framing is NEVER and b"upgrade" not in noted:
            self._parser = parser  # at the end of a message, so reusable for the next
        if in_origin_form and noted.get(b"host") == self._hosts and method != b"CONNECT":
            path, mark, query = aim.partition(b"?")
            head.path, head.query = path, query if mark else None
        else:
            self._set_target(head, aim)
        return head

    @staticmethod
    def _apply(head: RequestHead) -> None:
        """Apply the headers about the body and the connection. Raises BadMessage."""
        noted = head.noted
        head.framing, head.length = request_framing(noted, head.minor)
        if b"connection" in noted and noted[b"connection"] != _STAYS:
            head.apply_connection()
            noted = head.noted
            if b"upgrade" in noted and b"upgrade" in tokens(noted[b"connection"]):
                _upgrade(head)

    def _set_target(self, head: RequestHead, aim: bytes) -> None:
        """Set path, query and host. Raises BadMessage."""
        hosts = head.noted.get(b"host")
        head.path, head.query, host = target.split(head.method, aim, hosts, head.minor)
        if host is not None:
            head.set_host(host)
        elif hosts:
            self._hosts = hosts


class ResponseParser:
    """Parses the response heads of one connection. ``replays``: forward the app's Fly-Replay to Fly Proxy; it can send
    the client's request to any app of the organization."""

    __slots__ = ("_finder",)

    def __init__(self, *, replays: bool = False) -> None:
        self._finder = header_names.IN_UNFILTERED_RESPONSE if replays else header_names.IN_RESPONSE

    def parse(self, data: bytes, method: bytes) -> ResponseHead:
        """Parse ``data``: one head, up to and including its empty line. ``method``: of the request. Raises BadMessage
        (502)."""
        if len(data) > _FEW:
            _count_lines(data, 502)
        parser = httptools.HttpResponseParser(_silent)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise BadMessage(502, f"the app's response is not HTTP/1.1: {error}") from error
        head = ResponseHead()
        end = data.find(b"\r\n")
        head.status, head.reason = parser.get_status_code(), data[13:end]
        head.minor, head.size = 1 if data[7:8] == b"1" else 0, len(data)
        if head.status < 100 or data[:7] != b"HTTP/1." or not (head.reason == b"OK" or _TEXT.fullmatch(head.reason)):
            raise BadMessage(502, "the app's response is not HTTP/1.1")
        head.lowered = lowered = data.lower()
        head.note(data, lowered, end, self._finder)
        if lowered.find(header_names.REPLAY) >= 0 and self._finder is header_names.IN_RESPONSE:
            head.drop(b"content-type")
        head.dated = lowered.find(b"\r\ndate:") >= 0
        noted = head.noted
        lengths = noted.get(b"content-length", _NO_LINE)
        if head.status == 200 and method == b"GET" and len(lengths) == 1 and b"transfer-encoding" not in noted:
            value = lengths[0]
            head.length = int(value) if value.isdigit() and len(value) < 16 else _length(lengths, 502)
            head.framing = LENGTH
        else:
            head.framing, head.length = response_framing(method, head.status, head.noted)
        head.keep_alive = head.minor == 1 and head.framing is not UNTIL_CLOSE
        if b"connection" in noted and noted[b"connection"] != _STAYS:
            head.apply_connection()
        return head


def idle_seconds(keep_alive: bytes, longest: float) -> float:
    """Return for how many seconds an idle connection may be reused: one less than ``Keep-Alive: timeout=…``, at most
    ``longest``."""
    name, _, value = keep_alive.partition(b",")[0].partition(b"=")
    value = value.strip()
    return min(longest, max(0.0, int(value[:6]) - 1.0)) if name == b"timeout" and value.isdigit() else longest


def may_start_response(data: bytearray, start: int) -> bool:
    """Return whether ``data`` may be the start of a response head. ``start``: offset of the unchecked part."""
    return b"HTTP/1.".startswith(bytes(data[:7])) and data.find(b"\n\n", start) < 0


def request_framing(noted: dict[bytes, list[bytes]], minor: int) -> tuple[str, int]:
    """Return how a request's body is delimited, and its length (RFC 9112 §6). Raises BadMessage."""
    encodings, lengths = noted.get(b"transfer-encoding"), noted.get(b"content-length")
    if encodings:
        if lengths:
            raise BadMessage(400, "both Transfer-Encoding and Content-Length")
        if minor == 0:
            raise BadMessage(400, "Transfer-Encoding in an HTTP/1.0 request")
        if [e.lower() for e in encodings] != [b"chunked"]:
            raise BadMessage(501, "Transfer-Encoding other than chunked")
        return CHUNKED, 0
    if lengths:
        length = _length(lengths, 400)
        return (LENGTH, length) if length else (NEVER, 0)
    return NEVER, 0


def response_framing(method: bytes, status: int, noted: dict[bytes, list[bytes]]) -> tuple[str, int]:
    """Return how a response's body is delimited, and its length (RFC 9112 §6.3). Raises BadMessage."""
    encodings, lengths = noted.get(b"transfer-encoding"), noted.get(b"content-length")
    if encodings and lengths:
        raise BadMessage(502, "the app's response has both Transfer-Encoding and Content-Length")
    length = _length(lengths, 502) if lengths else None
    if status < 200 or status in (204, 304) or method == b"HEAD":
        return NEVER, length or 0
    if encodings:
        if [e.lower() for e in encodings] != [b"chunked"]:
            raise BadMessage(502, "the app's response has a Transfer-Encoding other than chunked")
        return CHUNKED, 0
    return (UNTIL_CLOSE, 0) if length is None else (LENGTH, length)


def tokens(values: list[bytes] | tuple[bytes, ...]) -> list[bytes]:
    """Split lists of tokens: ``[b"keep-alive, Upgrade"]`` → ``[b"keep-alive", b"upgrade"]``."""
    return [*map(bytes.strip, b",".join(values).lower().split(b","))]


def _count_lines(data: bytes, status: int) -> None:
    if data.count(b"\n") > MOST_LINES:
        raise BadMessage(status, f"the head has more than {MOST_LINES} lines")


def _length(values: list[bytes], status: int) -> int:
    if len(values) > 1 and len(set(values)) > 1:
        raise BadMessage(status, "several Content-Length headers that differ")
    value = values[0]
    if not value.isdigit() or len(value) > 18:
        raise BadMessage(status, "Content-Length is not a number")
    return int(value)


def _upgrade(head: RequestHead) -> None:
    protocols = tokens(head.noted[b"upgrade"])
    if b"h2c" in protocols or head.framing is not NEVER or head.minor == 0:
        return  # handled as an ordinary HTTP/1.1 request (RFC 9110 §7.8: an upgrade may be ignored)
    head.upgrade = b", ".join(head.noted[b"upgrade"])
