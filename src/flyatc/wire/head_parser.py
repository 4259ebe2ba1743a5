"""Parse and validate request and response heads (RFC 9112 §2-§6). llhttp checks the grammar. Pure.

Conflicting or malformed heads are refused, never interpreted: a guess would allow request smuggling.
"""

import re

import httptools

from flyatc.wire import header_names, target
from flyatc.wire.errors import BadMessage
from flyatc.wire.head import CHUNKED, LENGTH, NEVER, UNTIL_CLOSE, RequestHead, ResponseHead, tokens

_STAYS = [b"keep-alive"]  # as browsers send it
MOST_LINES = 1000  # of a head: bounds the work per line to milliseconds, whatever the size limit of a head
_FEW = 4 * MOST_LINES  # octets: a shorter head cannot have more lines ("a:" and CR LF)
_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_NO_LINE = (b"", b"", b"")
_STATUS = {
    "Invalid method encountered": 501,
    "Invalid HTTP version": 505,
}


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
