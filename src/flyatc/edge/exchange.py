"""The record of one request: filled in along the way, written once at the end."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic, time

import msgspec

from flyatc.observe.log import Log
from flyatc.observe.metrics import Counters
from flyatc.wire import server
from flyatc.wire.faults import BadMessage

_encoder = msgspec.json.Encoder()
_second: tuple[int, str] = (0, "")


class Line(msgspec.Struct, omit_defaults=False):
    """The access line. ``ms``: from the head to the last byte handed to the transport; ``wait_ms``: of it, for a cold
    start; ``bytes``: sent, with heads; ``start``: cold, warm, or none where no app was asked."""

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


class Recorder:
    """Writes the records. One for the daemon."""

    def __init__(self, log: Log, *, lines: bool) -> None:
        self.counters = Counters()
        self.lines = lines
        self._log = log

    def refused(self, peer: str, fault: BadMessage) -> None:
        """Something came which is no request."""
        self.counters.refused += 1
        self._log.event("info", "refused", status=fault.status, reason=fault.reason, remote=peer)

    def write(self, exchange: "Exchange") -> None:
        counters, now = self.counters, monotonic()
        counters.count(exchange.tenant or "", exchange.status)
        counters.seconds += now - exchange.began
        counters.octets += exchange.request.sent
        counters.in_flight -= 1
        if exchange.wait is not None:
            counters.cold += 1
            counters.cold_seconds += exchange.wait
        if self.lines and not exchange.silent:
            line = exchange.line(now)
            self._log.request(exchange.tenant, _encoder.encode(line), lambda: readable(line))


class Exchange:
    """One request, from its head to the last byte of its answer."""

    __slots__ = (
        "_ended", "_recorder", "began", "came", "identity", "on_end", "reason", "remote", "request", "silent", "start", "status",
        "tenant", "user", "wait",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, request: server.Request, identity: bytes, remote: str) -> None:
        self._recorder, self._ended = recorder, False
        self.request, self.identity, self.remote = request, identity, remote
        self.began, self.came = monotonic(), time()
        self.user: str | None = None
        self.tenant: str | None = None
        self.status = 0
        self.start: str | None = None
        self.wait: float | None = None
        self.reason: str | None = None
        self.silent = False
        self.on_end: Callable[[], None] | None = None
        recorder.counters.in_flight += 1

    def end(self) -> None:
        """Whatever happened, it is over: gives back the visit, writes the line. Once."""
        if self._ended:
            return
        self._ended = True
        if self.on_end is not None:
            self.on_end()
        self._recorder.write(self)

    def line(self, now: float) -> Line:
        head = self.request.head
        host, agent = head.one(b"host"), head.user_agent
        return Line(
            stamp(time()),
            "info",
            "request",
            self.status,
            int((now - self.began) * 1_000_000) / 1000,
            head.method.decode("latin-1"),
            host.decode("latin-1") if host else "",
            head.path.decode("latin-1"),
            None if head.query is None else head.query.decode("latin-1"),
            self.user,
            self.tenant,
            self.start,
            None if self.wait is None else round(self.wait * 1000, 3),
            self.request.sent,
            self.remote,
            self.identity.decode("latin-1"),
            agent.decode("latin-1") if agent else None,
            self.reason,
        )


def stamp(now: float) -> str:
    """RFC 3339 in UTC with microseconds; the part down to the second is kept for a second."""
    global _second
    whole = int(now)
    if _second[0] != whole:
        _second = (whole, datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S."))
    return "%s%06dZ" % (_second[1], (now - whole) * 1_000_000)


def readable(line: Line) -> bytes:
    """For a terminal."""
    colour = "31" if line.status >= 500 else "33" if line.status >= 400 else "32"
    clock = datetime.fromisoformat(line.time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    query = "" if line.query is None else f"?{line.query}"
    cold = "" if line.start != "cold" else f" \x1b[36mcold {line.wait_ms:.0f} ms\x1b[0m"
    why = "" if line.reason is None else f" \x1b[2m{line.reason}\x1b[0m"
    tenant = "" if line.tenant is None else f"\x1b[1m{line.tenant}\x1b[0m "
    path = (line.path + query).encode("unicode_escape").decode()
    return (
        f"\x1b[2m{clock}\x1b[0m \x1b[{colour}m{line.status}\x1b[0m{'':<4} {tenant}{line.method} {path} "
        f"\x1b[2m{line.ms:.1f} ms {line.bytes} B\x1b[0m{cold}{why}"
    ).encode(errors="replace")
