"""The line which a request leaves in the log: one JSON object."""

import re
from datetime import UTC, datetime
from time import time

import msgspec

from flyatc.edge.exchange import Exchange

_PLAIN = re.compile(rb"[ !#-\[\]-~]*")  # what stands in a JSON string as it is
_ORDINARY = (
    b'{"time":"%b","level":"info","msg":"request","status":%d,"ms":%d.%03d,"method":"%b","host":"%b","path":"%b","query":%b,'
    b'"user":%b,"tenant":%b,"start":"warm","wait_ms":null,"bytes":%d,"remote":"%b","request_id":"%b","user_agent":%b,'
    b'"reason":null}'
)
_encode = msgspec.json.Encoder().encode
_millisecond: tuple[int, bytes] = (0, b"")


class Line(msgspec.Struct):
    """``ms``: from the head to the last byte handed to the transport; ``wait_ms``: of it, for a cold start; ``bytes``:
    sent, with heads; ``start``: cold, warm, or none where no app was asked; ``time``: of the end."""

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
    bytes: int
    remote: str
    request_id: str
    user_agent: str | None
    reason: str | None


def line(exchange: Exchange, elapsed: float) -> bytes:
    """One JSON object. The ordinary ones are put together by hand, in a third of the time."""
    if exchange.start == "warm" and exchange.reason is None:
        head = exchange.request.head
        host, agent, query = head.noted.get(b"host", _NO_HOST)[0], head.user_agent, head.query
        remote = exchange.remote.encode("latin-1", "replace")
        if _PLAIN.fullmatch(b"".join((host, head.path, query or b"", agent or b"", exchange.identity, remote))):
            micro = int(elapsed * 1_000_000)
            return _ORDINARY % (
                _stamp(), exchange.status, micro // 1000, micro % 1000, head.method, host, head.path,
                b"null" if query is None else b'"%b"' % query,
                b"null" if exchange.user is None else b'"%b"' % exchange.user.encode(),
                b"null" if exchange.tenant is None else b'"%b"' % exchange.tenant.encode(),
                exchange.request.sent, remote, exchange.identity, b"null" if agent is None else b'"%b"' % agent,
            )  # fmt: skip
    return _encode(full(exchange, elapsed))


_NO_HOST = [b""]


def full(exchange: Exchange, elapsed: float) -> Line:
    head = exchange.request.head
    return Line(
        _stamp().decode(),
        "info",
        "request",
        exchange.status,
        int(elapsed * 1_000_000) / 1000,
        head.method.decode("latin-1"),
        (head.one(b"host") or b"").decode("latin-1"),
        head.path.decode("latin-1"),
        None if head.query is None else head.query.decode("latin-1"),
        exchange.user,
        exchange.tenant,
        exchange.start,
        None if exchange.wait is None else round(exchange.wait * 1000, 3),
        exchange.request.sent,
        exchange.remote,
        exchange.identity.decode("latin-1"),
        None if head.user_agent is None else head.user_agent.decode("latin-1"),
        exchange.reason,
    )


def _stamp() -> bytes:
    """RFC 3339 in UTC with milliseconds; made once for each of them."""
    global _millisecond
    now = int(time() * 1000)
    if _millisecond[0] != now:
        whole = datetime.fromtimestamp(now // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _millisecond = (now, b"%b.%03dZ" % (whole.encode(), now % 1000))
    return _millisecond[1]
