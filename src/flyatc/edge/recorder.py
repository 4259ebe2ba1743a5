"""Where the records of requests go: into the counters and the log."""

from time import monotonic

from flyatc.edge import access
from flyatc.edge.exchange import Exchange
from flyatc.observe.log import Log
from flyatc.observe.metrics import Counters
from flyatc.wire.faults import BadMessage


class Recorder:
    """Counts, and writes the lines. One for the daemon."""

    def __init__(self, log: Log, *, lines: bool) -> None:
        self.counters = Counters()
        self.lines = lines
        self._log = log
        self.served_at = monotonic()  # when somebody was last served, by an app or without one; health is nobody

    def failures(self, tenant: str) -> int:
        """How often the app at this address answered 500, or did not answer, so far."""
        return sum(self.counters.requests.get((tenant, status), 0) for status in (500, 502))

    def refused(self, peer: str, identity: str, fault: BadMessage) -> None:
        """Something came which is no request."""
        self.counters.refused += 1
        self._log.event("info", "refused", status=fault.status, reason=fault.reason, remote=peer, request_id=identity)

    def warn(self, exchange: Exchange, reason: str) -> None:
        """Something in a request at which somebody should look."""
        self._log.event(
            "warning", access.cut(reason), tenant=exchange.tenant, request_id=exchange.identity.decode("latin-1")
        )

    def write(self, exchange: Exchange) -> None:
        counters, now = self.counters, monotonic()
        if exchange.status < 400 and exchange.tenant is not None and not exchange.silent:
            self.served_at = now
        counters.count(exchange.tenant or "", exchange.status)
        counters.seconds += now - exchange.began
        counters.octets += exchange.request.sent
        counters.in_flight -= 1
        if exchange.wait is not None:
            counters.cold += 1
            counters.cold_seconds += exchange.wait
        if self.lines and not exchange.silent:
            self._log.request(exchange.tenant, access.line(exchange, now - exchange.began))
