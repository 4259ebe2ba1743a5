"""Visitors' requests, and what their connections share.

A connection (``wire.connection``) hands each ``Request`` to the handler. Whoever deals with it is its ``receiver`` and
is told of the body, of backpressure, and of a visitor who left.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from flyatc.config.schema import Limits
from flyatc.wire import head, splice
from flyatc.wire.errors import BadMessage

WRITE_HIGH = 131072  # octets which may wait to be sent before the receiver is told


class Receiver(Protocol):
    """Deals with one request. Called on the loop, never after ``Request.end`` or ``Request.abort``."""

    def body(self, data: bytes) -> None:
        """A piece of the request's body."""

    def body_end(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def body_failed(self, fault: BadMessage) -> None:
        """The body is malformed, too large (413) or stopped coming (408)."""

    def gone(self) -> None:
        """The visitor has left; nothing more can be sent."""

    def writable(self, ready: bool) -> None:
        """Whether more of the answer should come now (backpressure)."""


class Connection(Protocol):
    """What a connection (``wire.connection``) does for its request and its server."""

    server: "Server"
    peer: str

    @property
    def transport(self) -> asyncio.Transport | None: ...

    def read_body(self) -> None: ...

    def hold_body(self, held: bool) -> None: ...

    def body_left(self) -> int: ...

    def lend_body(self) -> tuple[asyncio.Transport, bytes]: ...

    def body_returned(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finished(self, close: bool) -> None: ...

    def give_away(self) -> tuple[asyncio.Transport, bytes]: ...

    def abort(self) -> None: ...

    def check(self, now: float) -> None: ...

    def close_if_idle(self) -> None: ...


class Request:
    """One request on a connection, and the way to answer it."""

    __slots__ = ("_connection", "answered", "body_done", "head", "moving", "opening", "peer", "receiver", "sent")

    def __init__(self, connection: Connection, request_head: head.RequestHead) -> None:
        self._connection = connection
        self.head = request_head
        self.peer = connection.peer
        self.receiver: Receiver | None = None
        self.moving: splice.Splice | None = None  # moves the body past us
        self.body_done = request_head.framing is head.NEVER
        self.answered = False  # whether a byte of the final answer was written
        self.opening = b""  # of the answer: its head, and maybe some of its body
        self.sent = 0  # octets of answers

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may stay after this answer."""
        return self.head.keep_alive and not self._connection.server.closing

    @property
    def transport(self) -> asyncio.Transport | None:
        """For who sends past us; None: the visitor has left."""
        return self._connection.transport

    @property
    def write_timeout(self) -> float:
        """Seconds in which the visitor has to take something; 0: none."""
        return self._connection.server.limits.write_timeout

    def receive(self) -> None:
        """From now on the body comes to the receiver."""
        self._connection.read_body()

    def hold_body(self, held: bool) -> None:
        """Backpressure towards the visitor."""
        self._connection.hold_body(held)

    @property
    def body_left(self) -> int:
        """Octets which have not come yet; of a body in chunks 0."""
        return self._connection.body_left()

    def lend_body(self) -> tuple[asyncio.Transport, bytes]:
        """The transport, for who moves what is left past us, and what has come. Instead of ``receive``.

        He sets ``moving``; and calls ``body_returned`` when all is moved, or ``receive`` if he cannot begin."""
        return self._connection.lend_body()

    def body_returned(self) -> None:
        self.moving = None
        self._connection.body_returned()

    def interim(self, data: bytes) -> None:
        """Sends a 1xx answer."""
        self._connection.write(data)

    def send(self, data: bytes) -> None:
        """Sends a part of the answer. Bytes of the head count too."""
        if not self.answered:
            self.answered, self.opening = True, data
        self.sent += len(data)
        self._connection.write(data)

    def moved(self, octets: int) -> None:
        """Somebody wrote a part of the answer into the socket, past us."""
        self.answered = True
        self.sent += octets

    def end(self, *, close: bool = False) -> None:
        """The answer is complete. ``close``: the visitor was told of the connection's end, or it ends the body."""
        self._connection.finished(close or not self.keep_alive)

    def abort(self) -> None:
        """Cuts the connection, so that nobody takes a part for the whole."""
        self._connection.abort()

    def upgrade(self) -> tuple[asyncio.Transport, bytes]:
        """Gives the transport away, for a tunnel, and what the visitor has already sent ahead."""
        return self._connection.give_away()


class Server:
    """What all connections of one listener share."""

    def __init__(
        self,
        handle: Callable[[Request], None],
        refuse: Callable[[Connection, BadMessage, bytes], bytes],
        limits: Limits,
    ) -> None:
        """``handle`` deals with a request; ``refuse`` makes the answer to what is none, given what came of it."""
        self.handle, self.refuse, self.limits = handle, refuse, limits
        self.connections: set[Connection] = set()
        self.closing = False
        self._fewer = asyncio.Event()

    def sweep(self) -> None:
        """Ends what has been too slow for too long. How often it is called is the precision of all limits."""
        now = monotonic()
        for connection in list(self.connections):
            connection.check(now)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._fewer.set()

    async def emptied(self) -> None:
        """Returns when no connection is left."""
        while self.connections:
            self._fewer.clear()
            await self._fewer.wait()

    def close_idle(self) -> None:
        """No new requests: idle connections end now, busy ones after their answer."""
        self.closing = True
        for connection in list(self.connections):
            connection.close_if_idle()

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()
