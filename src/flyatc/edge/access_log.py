"""The access-log line of a request (one JSON object), and the request counters."""

from bisect import bisect_left
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, time

import msgspec

from flyatc.edge.exchange import Exchange
from flyatc.observe.counters import DURATIONS, FAILED, Counters
from flyatc.observe.log import Log
from flyatc.observe.log_text import inert_json
from flyatc.wire.errors import BadMessage
from flyatc.wire.head import CHUNKED, NEVER, RequestHead

_PLAIN = bytes(set(range(32, 127)) - set(b'"\\'))  # need no escape in a JSON string
_ORDINARY = (
    b'{"time":"%b.%03dZ","level":"info","msg":"request","status":%d,"ms":%d.%03d,"method":"%b","host":"%b","path":"%b","query":%b,'
    b'%b,"bytes":%d,%b,"resp_content_length":%d,"resp_content_type":%b,"proto":"HTTP/1.%d",'
    b'"remote":"%b","request_id":"%b","user_agent":%b,"reason":%b}'
)
_NO_BODY = b'"req_content_length":0,"req_content_type":null'
_NO_HOST = [b""]
_TYPES = (b"\r\nContent-Type: ", b"\r\ncontent-type: ")  # the usual spellings
LONGEST = 8192  # octets of a path, a header or a reason that are logged; and of all texts of an ordinary line
_USUAL = 100  # octets; longer types are unlikely to repeat, and are not memoized
_USUAL_REASON = 200  # characters; longer ones are not memoized
_encoder = msgspec.json.Encoder()
_second: tuple[int, bytes] = (0, b"")


class Line(msgspec.Struct):
    """One access-log line.

    ``ms``: from the head to the last byte handed to the transport; ``wait_ms``: the part of it spent on a cold start;
    ``bytes``: sent, with heads; ``start``: cold, warm, or None if no app was involved; ``time``: of the end; ``cache``:
    the value of X-Cache, None if the cache was not used; ``req_content_length``: as announced, None if chunked;
    ``resp_content_length``: octets sent after the head, however it ended."""

    time: str
    level: str
    msg: str
    status: int
    ms: float
    method: str
    host: str
    path: str
    query: str | None
    user: str | None
    tenant: str | None
    start: str | None
    wait_ms: float | None
    cache: str | None
    bytes: int
    req_content_length: int | None
    req_content_type: str | None
    resp_content_length: int
    resp_content_type: msgspec.Raw
    proto: str
    remote: str
    request_id: str
    user_agent: str | None
    reason: str | None


def _encode(value: object) -> bytes:
    return inert_json(_encoder.encode(value))


def line(exchange: Exchange, elapsed: float) -> bytes:
    """Return the line as JSON. Ordinary lines are formatted by hand, which costs a third less."""
    if exchange.wait is not None:
        return _encode(full(exchange, elapsed))
    head, opening = exchange.head, exchange.opening
    host, agent, query = head.noted.get(b"host", _NO_HOST)[0], head.user_agent, head.query
    remote = exchange.remote.encode("latin-1", "replace")
    texts = b"%b%b%b%b%b%b" % (host, head.path, query or b"", agent or b"", exchange.identity, remote)
    if len(texts) > LONGEST or not texts.isascii() or texts.translate(None, _PLAIN):
        return _encode(full(exchange, elapsed))
    micro, now = int(elapsed * 1_000_000), time()
    end = exchange.head_octets - 4 if exchange.head_octets else opening.find(b"\r\n\r\n")
    at = opening.find(_TYPES[0], 0, max(0, end))
    kind = opening[at + 16 : opening.find(b"\r", at + 16)] if at >= 0 else b""
    second, stamp = _second
    if second != int(now):
        second, stamp = _next_second(now)
    return _ORDINARY % (
        stamp, int((now - second) * 1000), exchange.status, micro // 1000, micro % 1000, head.method, host, head.path,
        b"null" if query is None else b'"%b"' % query,
        _whose(exchange.user, exchange.tenant, exchange.start, exchange.cache),
        exchange.sent, _NO_BODY if head.framing is NEVER else _asked(head),
        exchange.sent - end - 4 if opening else 0,
        _json(kind) if 0 < len(kind) < _USUAL else _type(opening, end), head.minor,
        remote, exchange.identity, b"null" if agent is None else b'"%b"' % agent,
        b"null" if exchange.reason is None else _reason(exchange.reason),
    )  # fmt: skip


@lru_cache(4096)
def _whose(user: str | None, tenant: str | None, start: str | None, cache: str | None) -> bytes:
    """Return the part of the line that many requests share."""
    texts = _encode(user), _encode(tenant), _encode(start), _encode(cache)
    return b'"user":%b,"tenant":%b,"start":%b,"wait_ms":null,"cache":%b' % texts


def _asked(head: RequestHead) -> bytes:
    kind = head.line(b"content-type")
    length = b"null" if head.framing is CHUNKED else b"%d" % head.length
    return b'"req_content_length":%b,"req_content_type":%b' % (length, _encode(_text(kind)))


def _type(opening: bytes, end: int) -> bytes:
    """Return as JSON the Content-Type in the head of a response, which ends at ``end``."""
    for name in _TYPES:
        at = opening.find(name, 0, end)
        if at >= 0:
            value = opening[at + 16 : opening.find(b"\r", at + 16)]
            return _json(value) if len(value) < _USUAL else _encode(_text(value))
    at = opening[: max(0, end)].lower().find(b"\r\ncontent-type:")
    return b"null" if at < 0 else _encode(_text(opening[at + 15 : opening.find(b"\r", at + 15)].strip(b" \t")))


def _reason(text: str) -> bytes:
    return _usual_reason(text) if len(text) < _USUAL_REASON else _encode(cut(text))


@lru_cache(1024)
def _usual_reason(text: str) -> bytes:
    return _encode(text)


@lru_cache(1024)
def _json(text: bytes) -> bytes:
    return _encode(_text(text))


def cut(text: str) -> str:
    """Return at most LONGEST characters of text from a client or an app, marked if there were more."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... (cut: {len(text)} bytes in all)"


def _text(value: bytes | None) -> str | None:
    return None if value is None else cut(value.decode("latin-1"))


def full(exchange: Exchange, elapsed: float) -> Line:
    request, head, opening = exchange, exchange.head, exchange.opening
    end = opening.find(b"\r\n\r\n")
    return Line(
        time=_stamp().decode(),
        level="info",
        msg="request",
        status=exchange.status,
        ms=int(elapsed * 1_000_000) / 1000,
        method=head.method.decode("latin-1"),
        host=cut((head.one(b"host") or b"").decode("latin-1")),
        path=cut(head.path.decode("latin-1")),
        query=_text(head.query),
        user=exchange.user,
        tenant=exchange.tenant,
        start=exchange.start,
        wait_ms=None if exchange.wait is None else round(exchange.wait * 1000, 3),
        cache=exchange.cache,
        bytes=request.sent,
        req_content_length=None if head.framing is CHUNKED else head.length,
        req_content_type=None if head.framing is NEVER else _text(head.line(b"content-type")),
        resp_content_length=request.sent - end - 4 if opening else 0,
        resp_content_type=msgspec.Raw(_type(opening, end)),
        proto=f"HTTP/1.{head.minor}",
        remote=cut(exchange.remote),
        request_id=exchange.identity.decode("latin-1"),
        user_agent=_text(head.user_agent),
        reason=None if exchange.reason is None else cut(exchange.reason),
    )


def _stamp() -> bytes:
    """Return the time as RFC 3339 in UTC with milliseconds."""
    now = time()
    second, text = _next_second(now)
    return b"%b.%03dZ" % (text, int((now - second) * 1000))


def _next_second(now: float) -> tuple[int, bytes]:
    """Return the second of ``now``, and its text; kept for the lines of the same second."""
    global _second
    second = int(now)
    _second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
    return _second


class Recorder:
    """Counts requests and writes the access log. One for the daemon."""

    def __init__(self, log: Log, *, lines: bool) -> None:
        self.counters = Counters()
        self.lines = lines
        self._log = log
        self.served_at = monotonic()  # when a request was last served; health checks do not count

    def failures(self, tenant: str) -> int:
        """Return how often requests of the tenant at this address ended in 500 or 502 so far."""
        return sum(self.counters.requests.get((tenant, status), 0) for status in (500, 502))

    def refused(self, peer: str, identity: str, fault: BadMessage) -> None:
        """Count and log a malformed request."""
        self.counters.refused += 1
        self._log.event("info", "refused", status=fault.status, reason=fault.reason, remote=peer, request_id=identity)

    def warn(self, exchange: Exchange, reason: str) -> None:
        """Log a warning about a request."""
        self._log.event("warning", cut(reason), tenant=exchange.tenant, request_id=exchange.identity.decode("latin-1"))

    def write(self, exchange: Exchange) -> None:
        counters, now = self.counters, monotonic()
        if exchange.status < 400 and exchange.tenant is not None and not exchange.silent:
            self.served_at = now
        key, elapsed = (exchange.tenant or "", exchange.status), now - exchange.began
        try:
            counters.requests[key] += 1
            counters.sent[key[0]] += exchange.sent
        except KeyError:  # the first one
            counters.count(*key, exchange.sent)
        if key[1] != 101:  # a tunnel takes as long as it is used
            times = counters.times.get(key[0]) or counters.timed(key[0])
            times[bisect_left(DURATIONS, elapsed)] += 1
            if key[1] >= 500:
                times[FAILED] += 1
        counters.seconds += elapsed
        counters.in_flight -= 1
        if exchange.wait is not None:
            counters.cold += 1
            counters.cold_seconds += exchange.wait
        if self.lines and not exchange.silent:
            self._log.request(exchange.tenant, line(exchange, elapsed))
