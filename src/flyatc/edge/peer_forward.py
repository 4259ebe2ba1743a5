"""Forward a request to another machine over the private network (6PN), if Fly Proxy cannot replay it.

Once connected, the request is forwarded as to an app, by the same code; only address and head differ.
"""

import asyncio
import secrets
from collections.abc import Callable
from time import time
from typing import Protocol

from msgspec import structs

from flyatc.config.schema import App
from flyatc.config.schema_sections import Compression, Delivery, Sendfile
from flyatc.edge import app_delivery, exchange, forward, headers, responses, upstream
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.routing import placement_rules, request_signature
from flyatc.routing.replay import Target
from flyatc.wire import head

RETRY_SECONDS = 5.0
REFUSED = b"refused"  # Flyatc-Seal of the 403 for a missing or invalid signature
AS_IT_IS = Delivery(compression=Compression(enabled=False), sendfile=Sendfile(enabled=False))


class Unreachable(FlyatcError):
    """No connection to the machine, so the request was not begun. ``after``: seconds of constant trying."""

    def __init__(self, text: str, *, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class PeerConnections(Protocol):
    """Connects to machines on the private network."""

    async def reach(self, to: Target, *, quick: bool) -> upstream.Gateway:
        """Connect to the machine, waking it first if it sleeps; the gateway has an idle connection. ``quick``: recent
        tries failed. Raises Unreachable."""


class PeerForwards:
    """The state shared by all requests forwarded to peers. ``open``: how many there are."""

    def __init__(self, signer: request_signature.RequestSigner, connections: PeerConnections) -> None:
        self.signer, self.connections = signer, connections
        self.open = 0
        self._none = asyncio.Event()

    def begun(self) -> None:
        self.open += 1
        self._none.clear()

    def ended(self) -> None:
        self.open -= 1
        if not self.open:
            self._none.set()

    async def over(self) -> None:
        """Wait until none is open."""
        if self.open:
            await self._none.wait()


class PeerForward(exchange.WaitingReceiver):
    """A request waiting for a connection to a peer. Ends in a ``Forward``, an error response, or the client's
    disconnect."""

    __slots__ = ("_all", "_app", "_failed", "_hops", "_place", "_responder", "_task", "_to")

    def __init__(
        self,
        to: forward.Forward,
        app: App,
        place: placement_rules.There,
        hops: int,
        every: PeerForwards,
        responder: responses.Responder,
        failed: Callable[[float], None],
    ) -> None:
        """``hops``: how often it was sent on before; ``failed``: called with the seconds of failed tries, if the
        machine was unreachable."""
        self._to, self._place, self._hops, self._all, self._responder = to, place, hops, every, responder
        self._failed = failed
        self._app = structs.replace(app, delivery=AS_IT_IS, response_timeout=0.0)  # the peer handles both
        self._task: asyncio.Task[None] | None = None

    def begin(self, *, quick: bool) -> None:
        self._all.begun()
        self._to.on_end = self._all.ended
        self._to.receiver = self
        self._task = tasks.start(self._go(quick), f"way to {self._place.target}")

    async def _go(self, quick: bool) -> None:
        to, pages, target = self._to, self._app.pages, self._place.target
        try:
            through = await self._all.connections.reach(target, quick=quick)
        except Unreachable as error:
            to.receiver = None
            if error.after:
                self._failed(error.after)
            why = f"{error}. {self._place.explanation}"
            return self._responder.refuse(to, 503, why, retry_after=RETRY_SECONDS, own=pages, owner=target.owner)
        except Exception:
            self._responder.fail(to, pages)
            raise
        to.receiver = None
        to.forwarded_to = f"forwarded to {target.app}/{target.id or target.region}: {self._place.reason}"
        delivery = app_delivery.without_tenant(self._app, None, ())
        return to.forward(through, delivery, self._head(), self._responder, examine=_examine)

    def _head(self) -> bytes:
        """Build and sign the head. Not earlier: waking the machine may have taken long, and signatures expire."""
        to, asked, now = self._to, self._to.head, time()
        asked.drop(
            request_signature.HEADER, b"fly-replay-src"
        )  # the signature replaces both; a client may have forged them
        assert to.user is not None
        what = request_signature.ForwardedRequest(to.user, self._hops + 1, to.peer)
        signature = self._all.signer.sign(
            self._place.target, asked.method, headers.target(asked), what, now, secrets.token_bytes(16)
        )
        line = b"\r\n%b: %b" % (request_signature.HEADER.title(), signature)
        return headers.towards_peer(asked, signature=line, identity=to.identity, milliseconds=int(now * 1000))

    # --- the client meanwhile (wire.server.Receiver) ---

    def gone(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._to.receiver = None
        self._to.status, self._to.reason = 499, "the client left while connecting to the other machine"
        self._to.end()


def _examine(response_head: head.ResponseHead) -> str | None:
    """Return why a response must not be sent: a 403 for a refused signature is not the app's."""
    if response_head.status == 403 and response_head.line(request_signature.HEADER) == REFUSED:
        return "it refuses our signature: its log says why (same FLYATC_SECRET and correct time on all machines?)"
    return None
