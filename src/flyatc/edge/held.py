"""A request which a pause holds. Its body is not read, its app not woken, and nobody counts it as a visit."""

import asyncio
from collections.abc import Callable
from time import monotonic

from flyatc.config.schema import Tenant
from flyatc.edge import exchange, respond, unread, verdict

RETRY_SECONDS = 5.0


class Held(unread.Unread):
    """Ends in ``go``, an answer of our own, or the visitor's leaving, of which ``left`` is told."""

    __slots__ = ("_go", "_left", "_next", "_responder", "_tenant", "_to", "scope")

    def __init__(
        self,
        to: exchange.Exchange,
        tenant: Tenant,
        go: Callable[[], None],
        responder: respond.Responder,
        left: Callable[["Held"], None],
    ) -> None:
        self._to, self._tenant, self._go, self._responder, self._left = to, tenant, go, responder, left
        self._next: asyncio.Handle | None = None  # what happens to it if nothing else does
        self.scope = ""  # of the pause which holds it
        to.request.receiver = self

    @property
    def address(self) -> str:
        return self._tenant.address

    @property
    def waited(self) -> float:
        """Seconds since the request came: whoever was held behind another's request has waited as well."""
        return monotonic() - self._to.began

    def wait(self, scope: str, limit: float, late: Callable[["Held"], None]) -> None:
        """``late`` is called when the request is ``limit`` seconds old. May be called again, with another limit."""
        self._cancel()
        self.scope = scope
        self._next = asyncio.get_running_loop().call_later(max(0.0, limit - self.waited), late, self)

    def release(self) -> None:
        """In a turn of its own, after those who were released before."""
        self._cancel()
        self._next = asyncio.get_running_loop().call_soon(self._released)

    def _released(self) -> None:
        self._to.reason = f"held for {self.waited:.3f} s by a pause ({verdict.named(self.scope)})"
        self._to.request.receiver = None
        self._go()

    def close(self, closed: verdict.Closed) -> None:
        """Maintenance has begun."""
        self._end()
        self._responder.closed(self._to, closed, self._tenant.app.pages)

    def refuse(self, reason: str, *, close: bool = False) -> None:
        """503 and not 504: the app was not asked, so whoever comes again repeats nothing, and is told when to."""
        self._end()
        pages = self._tenant.app.pages
        self._responder.refuse(self._to, 503, reason, retry_after=RETRY_SECONDS, own=pages, close=close)

    def _end(self) -> None:
        self._cancel()
        self._to.request.receiver = None

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()

    # --- the visitor meanwhile (wire.server.Receiver) ---

    def gone(self) -> None:
        self._end()
        self._left(self)
        self._to.status, self._to.reason = 499, "the visitor left while held by a pause"
        self._to.end()
