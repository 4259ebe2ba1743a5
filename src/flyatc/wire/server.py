"""Client requests, and the state shared by client connections.

A connection (``wire.connection``) passes each ``Request`` to the handler. The object that processes it becomes its
``receiver``, which gets the body, backpressure and disconnects.
"""

import asyncio
import contextlib
import math
import os
from collections.abc import Callable
from operator import itemgetter
from time import monotonic
from typing import Any, Protocol

from flyatc.config.schema import Limits
from flyatc.wire import buffers, descriptors, head, splice
from flyatc.wire.errors import BadMessage

WRITE_HIGH = 131072  # octets that may wait to be sent before backpressure is applied
FEWEST_CLOSED = 16  # idle connections that are closed at once when descriptors are short
SEARCH_SECONDS, WARN_SECONDS = 0.1, 60.0
ARRIVING_SECONDS = 1.0  # for which the request of an idle connection may be on its way, or wait to be read


class Receiver(Protocol):
    """Processes one request. Called on the loop, never after ``Request.end`` or ``Request.abort``."""

    def body(self, data: bytes) -> None:
        """Receive a piece of the request's body."""

    def body_end(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def body_failed(self, fault: BadMessage) -> None:
        """The body is malformed, too large (413) or stopped coming (408)."""

    def gone(self) -> None:
        """The client has disconnected; nothing more can be sent."""

    def writable(self, ready: bool) -> None:
        """Apply backpressure (``ready`` False), or lift it, on the response."""


class Connection(Protocol):
    """The interface of a connection (``wire.connection``) for its request and its server."""

    server: "Server"
    peer: str
    transport: asyncio.Transport | None

    def read_body(self) -> None: ...

    def hold_body(self, held: bool) -> None: ...

    def body_left(self) -> int: ...

    def lend_body(self) -> tuple[asyncio.Transport, bytes]: ...

    def body_returned(self) -> None: ...

    def finished(self, close: bool) -> None: ...

    def give_away(self) -> tuple[asyncio.Transport, bytes]: ...

    def abort(self) -> None: ...

    def check(self, now: float) -> None: ...

    def close_if_idle(self) -> None: ...

    def held(self) -> int: ...

    def still_since(self) -> float: ...

    def shed(self) -> None: ...

    @property
    def idle_since(self) -> float | None: ...


class Request:
    """One request on a connection, with methods to read its body and to respond. A subclass may process it.

    ``body_done``: the whole body was passed on; ``moving``: copies the body in the kernel; ``response_started``: a byte
    of the final response was written; ``opening``: the first bytes of the response, its head and maybe some of its
    body; ``head_octets``: length of that head, 0 if it has to be searched for; ``sent``: octets of responses."""

    __slots__ = (
        "_connection", "body_done", "head", "head_octets", "moving", "opening", "peer", "receiver", "response_started",
        "sent",
    )  # fmt: skip

    def __init__(self, connection: Connection, request_head: head.RequestHead) -> None:
        self._connection = connection
        self.head = request_head
        self.peer = connection.peer
        self.body_done = request_head.framing is head.NEVER
        self.receiver: Receiver | None = None
        self.moving: splice.Splice | None = None
        self.response_started = False
        self.opening = b""
        self.head_octets = self.sent = 0

    @property
    def keep_alive(self) -> bool:
        """True if the connection may stay open after this response."""
        return self.head.keep_alive and not self._connection.server.closing

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, for code that writes to the socket directly; None: the client has disconnected."""
        return self._connection.transport

    @property
    def write_timeout(self) -> float:
        """Seconds in which the client has to accept some data; 0: no limit."""
        return self._connection.server.limits.write_timeout

    @property
    def buffers(self) -> buffers.Buffers:
        """The bound for what all clients have in memory."""
        return self._connection.server.buffers

    def receive(self) -> None:
        """Start passing the body to the receiver."""
        self._connection.read_body()

    def hold_body(self, held: bool) -> None:
        """Apply or lift backpressure on the client."""
        self._connection.hold_body(held)

    @property
    def body_left(self) -> int:
        """Octets of the body that have not arrived yet; 0 if it is chunked."""
        return self._connection.body_left()

    def lend_body(self) -> tuple[asyncio.Transport, bytes]:
        """Return the transport, to splice the rest of the body from, and the part that has arrived.

        Called instead of ``receive``. The caller sets ``moving``, and calls ``body_returned`` when all is moved, or
        ``receive`` if it cannot begin."""
        return self._connection.lend_body()

    def body_returned(self) -> None:
        self.moving = None
        self._connection.body_returned()

    def send_interim(self, data: bytes) -> None:
        """Send an interim response (1xx)."""
        if (transport := self._connection.transport) is not None:
            transport.write(data)

    def send(self, data: bytes) -> None:
        """Send a part of the response. Bytes of the head count too."""
        if not self.response_started:
            self.response_started, self.opening = True, data
        self.sent += len(data)
        if (transport := self._connection.transport) is not None:
            transport.write(data)

    def send_with(self, opening: bytes, body: bytes | memoryview) -> None:
        """Send the head of the response with a long part of its body, which is copied only if the socket is full."""
        self.response_started, self.opening, self.head_octets = True, opening, len(opening)
        self.sent += len(opening) + len(body)
        if (transport := self._connection.transport) is not None:
            write_now(transport, opening, body)

    def send_view(self, data: memoryview) -> None:
        """Send a long part of the response's body, which is copied only if the socket is full."""
        self.sent += len(data)
        if (transport := self._connection.transport) is not None:
            write_now(transport, data)

    def moved(self, octets: int) -> None:
        """Count octets of the response that were written to the socket directly."""
        self.response_started = True
        self.sent += octets

    def end_response(self, *, close: bool = False) -> None:
        """End the response. ``close``: close the connection, as announced to the client or to delimit the body."""
        connection = self._connection
        connection.finished(close or not self.head.keep_alive or connection.server.closing)

    def abort(self) -> None:
        """Cut the connection, so that a partial response is not taken for a complete one."""
        self._connection.abort()

    def upgrade(self) -> tuple[asyncio.Transport, bytes]:
        """Detach and return the transport, for a tunnel, and the bytes that the client has already sent ahead."""
        return self._connection.give_away()


def write_now(transport: asyncio.Transport, *parts: bytes | memoryview) -> None:
    """Write the parts, which may change after this call: what the socket does not accept at once is copied."""
    accepted = 0
    if not transport.get_write_buffer_size() and not transport.is_closing():
        own = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # full, or broken: then the transport finds out
            accepted = os.writev(own.fileno(), parts)
    for part in parts:
        if accepted < len(part):
            transport.write(bytes(part[accepted:]))
        accepted = max(0, accepted - len(part))


class Server:
    """The state shared by all connections of one listener."""

    def __init__(
        self,
        handle: Callable[[Any], None],
        refuse: Callable[[Connection, BadMessage, bytes], bytes],
        limits: Limits,
        request: Callable[[Connection, head.RequestHead], Request] = Request,
        warn: Callable[[str], None] = lambda why: None,
    ) -> None:
        """``handle`` processes a request, as ``request`` makes it; ``refuse`` returns the response to a malformed one,
        from its bytes so far; ``warn``: called now and then while descriptors are short."""
        self.handle, self.refuse, self.limits, self.request, self._warn = handle, refuse, limits, request, warn
        self.connections: set[Connection] = set()
        self.buffers = buffers.Buffers(self.connections, lambda: self.limits.buffers, warn)
        self.closing = False
        self._searched = self._warned = -math.inf  # when no idle connection was found; monotonic
        self._fewer = asyncio.Event()

    def sweep(self) -> None:
        """End connections that exceed a time limit. The precision of all limits is the interval of these calls."""
        now = monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self.buffers.check()

    def admit(self, connection: Connection) -> None:
        """Take a new connection; refuse it if descriptors are short and no connection is idle."""
        transport = connection.transport
        assert transport is not None
        if self.closing:
            return connection.abort()
        if descriptors.number(transport) >= descriptors.bounds().crowded and not self.make_room():
            fault = BadMessage(503, f"too many connections are open: {descriptors.ADVICE}")
            transport.write(self.refuse(connection, fault, b""))
            return transport.close()
        return self.connections.add(connection)

    def make_room(self) -> bool:
        """Close idle connections, those that are idle for longest. Return whether there was one: of those that are idle
        for less than ARRIVING_SECONDS, a request may be cut off."""
        now = monotonic()
        if now - self._searched < SEARCH_SECONDS:
            return False  # else many refused connections would cost a search each
        before = now - ARRIVING_SECONDS
        found = [(since, one) for one in self.connections if (since := one.idle_since) is not None and since <= before]
        found.sort(key=itemgetter(0))
        for _, one in found[: max(FEWEST_CLOSED, len(found) // 8)]:
            if one.transport is not None:
                one.transport.close()
        if now - self._warned > WARN_SECONDS:
            self._warned = now
            self._warn(f"file descriptors are short, so idle connections of clients are closed: {descriptors.ADVICE}")
        if not found:
            self._searched = now
        return bool(found)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._fewer.set()

    async def wait_empty(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._fewer.clear()
            await self._fewer.wait()

    def close_idle(self) -> None:
        """Accept no new requests: idle connections close now, busy ones after their response."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_if_idle()

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()
