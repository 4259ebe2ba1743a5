"""Connections to one app: a keep-alive pool, and the parsing of responses.

A response is passed to the ``ResponseReceiver`` in as few calls as it took reads; an ordinary one (head and body in one
read) in a single call. Only dialing awaits.
"""

import asyncio
import socket
from time import monotonic
from typing import Protocol, cast

from flyatc.wire import chunked, head
from flyatc.wire.errors import BadMessage

HEAD_LIMIT = 262144  # octets of a head; apps may set many cookies
MOST_INTERIM = 64  # 1xx responses to one request; more are a fault, or keep the client waiting for ever
KEEP_IDLE = 64
IDLE_SECONDS = 30.0
FRESH_SECONDS = 1.0  # an older idle connection may be closing: not used for requests that must not be sent twice
WRITE_HIGH = 131072
VIEWED = 16384  # octets of a body from which a view of them is passed on instead of a copy
APP = "the app"


class ResponseReceiver(Protocol):
    """Receives the response to one request."""

    def interim(self, response_head: head.ResponseHead) -> None:
        """Receive an interim response (1xx), except 101."""

    def response(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> None:
        """Receive the head, with the part of the body from the same read; a long part is not copied, but a view of what
        was read. ``complete``: nothing follows."""

    def response_body(self, data: bytes) -> None:
        """Receive more of the body, without its framing."""

    def response_end(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def response_failed(self, reason: str) -> None:
        """The app closed early, or sent a malformed response. Nothing follows."""

    def app_writable(self, ready: bool) -> None:
        """Apply backpressure (``ready`` False), or lift it, on the request's body."""


class AppConnection(asyncio.Protocol):
    """One connection to an app. ``used``: whether it has carried a response before (it may be closed by now)."""

    __slots__ = (
        "_buffer", "_decoder", "_framing", "_interim", "_left", "_method", "_parser", "_pool", "_reusable",
        "_transport", "_until", "receiver", "responding", "since", "unread", "used",
    )  # fmt: skip

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = head.ResponseParser(replays=pool.replays)
        self._buffer = bytearray()
        self._interim = 0  # 1xx responses so far to the present request
        self._framing: str | None = None  # of the body being read; None: waiting for a head
        self._left = 0
        self._decoder: chunked.Decoder | None = None
        self._method = b""
        self._reusable = False
        self._until = IDLE_SECONDS
        self.receiver: ResponseReceiver | None = None
        self.responding = False  # a byte of the response has arrived
        self.used = False
        self.unread = False  # it was reset: the app closed it without reading all that was sent (tcp(7): else a FIN)
        self.since = 0.0  # when it became idle

    # --- requests ---

    def ask(self, receiver: ResponseReceiver, method: bytes, data: bytes) -> None:
        """Begin a request. ``data``: its head, maybe some of its body; empty if the caller sends that later."""
        self.receiver, self._method = receiver, method
        self._framing, self.responding = None, False
        if data and self._transport is not None:
            self._transport.write(data)

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def hold(self, held: bool) -> None:
        """Apply or lift backpressure on the app."""
        if self._transport is not None:
            if held:
                self._transport.pause_reading()
            elif not self._transport.is_reading():
                self._transport.resume_reading()

    def release(self, *, reuse: bool) -> None:
        """Return the connection to the pool, or close it. ``reuse``: whether the request was sent completely."""
        self.receiver = None
        if self._transport is None:
            return None
        if reuse and self._reusable and self._framing is None and not self._buffer and self._transport.is_reading():
            self.used, self.since = True, monotonic()
            idle = self._pool.unused
            if len(idle) < KEEP_IDLE:
                return idle.append(self)
            self.close()
        else:
            self._transport.abort()
        return None

    def lend(self) -> tuple[asyncio.Transport, int]:
        """Return the transport, to splice the rest of the response body from, and the octets that have not arrived.

        The caller calls ``returned`` when all are moved, or ``release`` if that fails."""
        assert self._transport is not None
        assert self._framing is head.LENGTH
        return self._transport, self._left

    @property
    def unwritten(self) -> asyncio.Transport | None:
        """The transport, to splice a request's body to; None: closed, or its write buffer is not empty."""
        transport = self._transport
        return None if transport is None or transport.get_write_buffer_size() else transport

    def returned(self) -> None:
        self._left, self._framing = 0, None
        self.hold(False)

    def give_away(self) -> tuple[asyncio.Transport, bytes]:
        """Detach and return the transport, for a tunnel, and the bytes that the app has already sent after its 101."""
        transport, early = self._transport, bytes(self._buffer)
        assert transport is not None
        self._pool.forget(self)
        self._transport, self.receiver, self._buffer = None, None, bytearray()
        return transport, early

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def notice_silence(self, idle: int, taking: int) -> None:
        """Detect a peer host that vanishes without a FIN (tcp(7)). ``idle``: seconds of silence before keepalive
        probes; ``taking``: seconds in which sent data must be acknowledged, long because an app that is being started
        there reads nothing for a while."""
        if self._transport is not None:
            own = self._transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, taking * 1000)

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        receiver = self.receiver
        if receiver is None:
            return self.close()  # data without a request
        if self._framing is head.LENGTH:
            self._counted(receiver, data)
        elif self._framing is None:
            self.responding = True
            self._heads(receiver, data)
        elif self._framing is head.CHUNKED:
            self._chunks(receiver, data)
        else:
            receiver.response_body(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.unread = isinstance(error, ConnectionResetError | BrokenPipeError)
        self._pool.forget(self)
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            return
        if self._framing is head.UNTIL_CLOSE and error is None:
            receiver.response_end([])
        elif self._framing is None:
            how = "in the middle of a head" if self._buffer else "without a response"
            receiver.response_failed(f"{self._pool.named} closed the connection {how}")
        else:
            receiver.response_failed(f"{self._pool.named} closed the connection in the middle of its response")

    def pause_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.app_writable(False)

    def resume_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.app_writable(True)

    # --- responses ---

    def _heads(self, receiver: ResponseReceiver, data: bytes) -> None:
        if self._buffer and not (data := self._joined(receiver, data)):
            return None
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return self._hold_start(receiver, data, 0)
            end += 4
            try:
                response_head = self._parser.parse(data if end == len(data) else data[:end], self._method)
            except BadMessage as fault:
                return self._broken(receiver, fault.reason)
            if response_head.status >= 200 or response_head.status == 101:
                break
            data = data[end:]
            if not self._interim_passes(receiver, response_head) or not data:
                return None
        self._interim = 0
        if response_head.status == 101:
            self._buffer += data[end:]
            return receiver.response(response_head, b"", False)
        self._reusable = response_head.keep_alive
        hint = response_head.noted.get(b"keep-alive")
        self._until = IDLE_SECONDS if hint is None else head.idle_seconds(hint[0], IDLE_SECONDS)
        octets = len(data) - end
        if response_head.framing is head.LENGTH and octets <= response_head.length:
            self._left = left = response_head.length - octets
            self._framing = head.LENGTH if left else None
            body = memoryview(data)[end:] if octets > VIEWED else data[end:]
            return receiver.response(response_head, body, not left)
        return self._first(receiver, response_head, data[end:])

    def _interim_passes(self, receiver: ResponseReceiver, response_head: head.ResponseHead) -> bool:
        """Pass on an interim response. Return whether the receiver still waits for more."""
        self._interim += 1
        if self._interim <= MOST_INTERIM:
            receiver.interim(response_head)
        else:
            self._broken(receiver, f"the app sent more than {MOST_INTERIM} interim responses (1xx)")
        return self.receiver is receiver

    def _joined(self, receiver: ResponseReceiver, data: bytes) -> bytes:
        """Return the held start of a head joined with ``data``, empty if incomplete. Searches only the new bytes."""
        start = max(0, len(self._buffer) - 3)
        if b"\r\n\r\n" not in self._buffer[start:] + data:
            self._hold_start(receiver, data, start)
            return b""
        data, self._buffer = bytes(self._buffer + data), bytearray()
        return data

    def _hold_start(self, receiver: ResponseReceiver, data: bytes, start: int) -> None:
        """Keep the start of a head. ``start``: offset of the unchecked part."""
        self._buffer += data
        if len(self._buffer) > HEAD_LIMIT or not head.may_start_response(self._buffer, start):
            self._broken(receiver, "the app's response is not HTTP/1.1")

    def _first(self, receiver: ResponseReceiver, response_head: head.ResponseHead, data: bytes) -> None:
        framing = response_head.framing
        if framing is head.CHUNKED:
            self._framing, self._decoder = framing, chunked.Decoder()
            receiver.response(response_head, b"", False)
            if data and self.receiver is receiver:
                self._chunks(receiver, data)
            return
        if framing is head.UNTIL_CLOSE:
            self._framing = framing
            return receiver.response(response_head, data, False)
        wanted = response_head.length if framing is head.LENGTH else 0
        if len(data) > wanted:
            data, self._reusable = data[:wanted], False  # more than announced: the connection is not reused
        self._left = wanted - len(data)
        self._framing = head.LENGTH if self._left else None
        receiver.response(response_head, data, not self._left)

    def _counted(self, receiver: ResponseReceiver, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return receiver.response_body(data)
        if left:
            data, self._reusable = data[:left], False
        self._left, self._framing = 0, None
        receiver.response_body(data)
        if self.receiver is receiver:
            receiver.response_end([])

    def _chunks(self, receiver: ResponseReceiver, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            pieces = decoder.feed(data)
            trailers = decoder.trailers if decoder.done else []
        except BadMessage as fault:
            return self._broken(receiver, fault.reason)
        if decoder.done:
            self._framing = self._decoder = None
            if decoder.rest:
                self._reusable = False
        if pieces:
            receiver.response_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if decoder.done and self.receiver is receiver:
            receiver.response_end(trailers)

    def _broken(self, receiver: ResponseReceiver, reason: str) -> None:
        self.receiver = None
        self.close()
        receiver.response_failed(reason)


class Pool:
    """The connections to one app; idle ones are reused, the last used first. ``replays``: see
    ``head.ResponseParser``; ``named``: its name in error texts."""

    def __init__(self, host: str, port: int, *, replays: bool = False, named: str = APP) -> None:
        self.host, self._port, self.replays, self.named = host, port, replays, named
        self.unused: list[AppConnection] = []
        self._all: set[AppConnection] = set()

    def idle(self, *, repeatable: bool) -> AppConnection | None:
        """Return an idle connection, None if there is none. Only a fresh one if the request is not ``repeatable``."""
        unused = self.unused
        while unused:
            connection = unused[-1]
            transport, age = connection._transport, monotonic() - connection.since
            if transport is None or age > connection._until or transport.is_closing():
                unused.pop()
                connection.close()
                continue
            if not repeatable and age > FRESH_SECONDS:
                return None
            return unused.pop()
        return None

    async def dial(self) -> AppConnection:
        """Open a new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: AppConnection(self), self.host, self._port)
        self._all.add(connection)
        return connection

    def take_back(self, connection: AppConnection) -> None:
        if len(self.unused) < KEEP_IDLE:
            self.unused.append(connection)
        else:
            connection.close()

    def forget(self, connection: AppConnection) -> None:
        self._all.discard(connection)
        if connection in self.unused:
            self.unused.remove(connection)

    def close(self) -> None:
        """Cut every connection."""
        for connection in list(self._all):
            connection.close()
        self.unused.clear()
