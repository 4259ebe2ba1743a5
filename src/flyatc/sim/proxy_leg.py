"""Connect to a machine and exchange one request and response with it. A replay drops one leg and begins another.

Candidates are tried, and stopped ones started, until one accepts the connection or the time is up:
https://fly.io/docs/networking/dynamic-request-routing/ (timeout, fallback) and
https://fly.io/docs/monitoring/error-codes/ (PR03, PR04, PM07 to PM11).
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from flyatc.kit.errors import FlyatcError
from flyatc.sim.machine import Machine, WrongState
from flyatc.sim.machines import Machines
from flyatc.sim.proxy_rules import RUNNING, STARTABLE, candidates
from flyatc.sim.replay import Replay
from flyatc.wire import chunked, head, server, upstream_connection, upstream_pool
from flyatc.wire.errors import BadMessage

LARGEST_REPLAY = 1 << 20  # bytes of a request's body; "1 MB" in the docs
LARGEST_JSON = 1 << 16  # bytes, of a replay in JSON


class NoAnswer(FlyatcError):
    """The machine accepted the connection and sent no response: PU02."""


class Body:
    """The request body (wire.server.Receiver): forwarded as it arrives, and kept as long as it can be replayed."""

    def __init__(self, request: server.Request) -> None:
        self._request = request
        self._framed = request.head.framing is head.CHUNKED
        self._kept: list[bytes] = []
        self._size = 0
        self._sink: upstream_connection.AppConnection | None = None
        self.replayable = request.head.length <= LARGEST_REPLAY
        self.settled = asyncio.Event()  # set when it is known whether it can be replayed
        self.left: asyncio.Future[None] = (
            asyncio.get_running_loop().create_future()
        )  # done when the client has disconnected
        self.delivering: upstream_connection.AppConnection | None = None
        request.receiver = self
        if self.whole or not self.replayable:
            self.settled.set()
        request.receive()

    @property
    def whole(self) -> bool:
        return self._request.body_done

    def flow_to(self, sink: upstream_connection.AppConnection) -> None:
        """Send the body from its beginning; only while ``replayable``, or the first time."""
        self._sink = sink
        for piece in self._kept:
            sink.send(piece)
        if not self.replayable:
            self._kept.clear()
        self.hold(False)

    def detach(self) -> None:
        """Detach from the machine; reading continues while the body can be replayed."""
        self._sink = None
        self.hold(not self.replayable)

    def body(self, data: bytes) -> None:
        self._size += len(data)
        self._put(chunked.encode([data]) if self._framed else data)

    def body_end(self, trailers: list[bytes]) -> None:
        if self._framed:
            self._put(chunked.last(trailers))
        self.settled.set()

    def body_failed(self, fault: BadMessage) -> None:
        self.gone()

    def gone(self) -> None:
        if not self.left.done():
            self.left.set_result(None)

    def writable(self, ready: bool) -> None:
        if self.delivering is not None:
            self.delivering.hold(not ready)

    def _put(self, data: bytes) -> None:
        if self._size > LARGEST_REPLAY:
            self.replayable = False
            self.settled.set()
        if self.replayable or self._sink is None:
            self._kept.append(data)
        else:
            self._kept.clear()
        if self._sink is not None:
            self._sink.send(data)
        elif not self.replayable:
            self._request.hold_body(True)

    def hold(self, held: bool) -> None:
        self._request.hold_body(held)


class Leg:
    """One request to one machine (a ``ResponseReceiver``). The response body is kept until ``deliver``."""

    def __init__(self, connection: upstream_connection.AppConnection, request: server.Request, body: Body) -> None:
        self._connection, self._request, self._body = connection, request, body
        self._pieces: list[bytes] = []
        self._complete = asyncio.Event()
        self._failed: str | None = None
        self._chunks = self._delivering = False
        self._trailers: list[bytes] = []
        self.reply: asyncio.Future[head.ResponseHead] = asyncio.get_running_loop().create_future()

    def ask(self, data: bytes) -> None:
        self._connection.ask(self, self._request.head.method, data)
        self._body.flow_to(self._connection)

    async def json(self) -> bytes:
        """Return the body of a replay response. Raises NoAnswer."""
        self._connection.hold(False)
        await self._complete.wait()
        if self._failed is not None:
            raise NoAnswer(self._failed)
        return b"".join(self._pieces)[:LARGEST_JSON]

    async def deliver(self, data: bytes, *, chunks: bool) -> None:
        """Send the head, and the body as it arrives, until its end. Raises NoAnswer if it is cut off."""
        self._chunks, self._delivering = chunks, True
        self._body.delivering = self._connection
        if not self._complete.is_set():
            self._connection.hold(False)
        self._request.send(data)
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self._send(piece)
        await self._complete.wait()
        self._body.delivering = None
        if self._failed is not None:
            raise NoAnswer(self._failed)
        if chunks:
            self._request.send(chunked.last(self._trailers))

    def give_away(self) -> tuple[asyncio.Transport, bytes]:
        return self._connection.give_away()

    def drop(self) -> None:
        """Close the connection to the machine."""
        self._body.delivering = None
        self._connection.release(reuse=False)
        self._body.detach()

    # --- wire.upstream_connection.ResponseReceiver ---

    def interim(self, response_head: head.ResponseHead) -> None:
        """Ignore 1xx: the proxy itself sends 100; others are not forwarded."""

    def response(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> None:
        if body:
            self._pieces.append(bytes(body))
        if complete:
            self._complete.set()
        elif response_head.status != 101:
            self._connection.hold(True)  # until it is known whether it is sent to the client
        if not self.reply.done():
            self.reply.set_result(response_head)

    def response_body(self, data: bytes | memoryview) -> None:
        if self._delivering:
            self._send(bytes(data))
        else:
            self._pieces.append(bytes(data))

    def response_end(self, trailers: list[bytes]) -> None:
        self._trailers = trailers
        self._complete.set()

    def response_failed(self, reason: str) -> None:
        self._failed = reason
        self._complete.set()
        if not self.reply.done():
            self.reply.set_exception(NoAnswer(reason))
            self.reply.exception()  # mark as retrieved, even if nothing awaits it

    def app_writable(self, ready: bool) -> None:
        self._body.hold(not ready)

    def _send(self, data: bytes) -> None:
        self._request.send(chunked.encode([data]) if self._chunks else data)


RETRY_SECONDS = 0.1  # up to 90 retries, in about 8 s
HOST = "127.0.0.1"


class Unreached(Struct, frozen=True):
    """No machine was reached. ``reason``: as in ``fly-replay-failed``; ``code``: as in Fly's log."""

    reason: str
    code: str
    message: str


class Reached(Struct, frozen=True):
    machine: Machine
    connection: upstream_connection.AppConnection


class Connector:
    """Connects requests to machines."""

    def __init__(self, machines: Machines, edge: str, *, give_up: float) -> None:
        """``give_up``: timeout in seconds for replays without their own."""
        self._machines, self._edge, self._give_up = machines, edge, give_up

    async def reach(self, want: Replay, origin: str | None, note: Callable[[str], None]) -> Reached | Unreached:
        """Connect to a candidate. ``want.app`` must be set; ``note`` is called with each step."""
        patience = want.patience
        last = Unreached("no_candidate", "PR04", "could not find a good candidate within 90 attempts at load balancing")
        try:
            async with asyncio.timeout(self._give_up if patience is None else patience):
                while True:
                    found = candidates(self._machines.seen(), want, self._edge, origin)
                    if not found:
                        return self._no_candidate(want)
                    for seen in found:
                        one = self._machines.get(seen.id)
                        if one is not None and (connection := await self._try(one, note)) is not None:
                            return Reached(one, connection)
                    last = Unreached("retries_exhausted", "PR03", "could not find a good candidate within 90 attempts")
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            return last if patience is None else Unreached("timeout", "PR04", f"no machine within {want.timeout}")

    def _no_candidate(self, want: Replay) -> Unreached:
        if want.app not in self._machines.apps():
            return Unreached("no_candidate", "PA04", f"app {want.app} not found")
        if want.instance and self._machines.get(want.instance) is None:
            return Unreached("no_candidate", "PR02", f"machine {want.instance} not found")
        return Unreached("no_candidate", "PR01", "no candidates found")

    async def _try(self, one: Machine, note: Callable[[str], None]) -> upstream_connection.AppConnection | None:
        """Start the machine if necessary and connect to it; None if it accepts no connection now."""
        if one.state in STARTABLE and one.seen().state != RUNNING:  # else the proxy still sees it as started: PM11
            note(f"wakes {one.record.name} ({one.state})")
            try:
                await one.start()
            except WrongState:  # a concurrent action was first: PM07, PM08
                return None
        if not one.reachable:
            return None
        try:
            return await upstream_pool.Pool(HOST, one.record.port, replays=True).dial()
        except OSError:  # not yet listening
            return None
