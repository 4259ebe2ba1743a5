"""A connection to an app: sends requests, parses responses.

A response is passed to the ``ResponseReceiver`` in as few calls as it took reads; an ordinary one (head and body in one
read) in a single call.
"""

import asyncio
import socket
from time import monotonic
from typing import Protocol, cast

from flyatc.wire import chunked, descriptors, head, head_parser
from flyatc.wire.buffers import Reading
from flyatc.wire.errors import BadMessage

HEAD_LIMIT = 262144  # octets of a head; apps may set many cookies
HEAD_SECONDS = 60.0  # from the first octet of a head to its last
MOST_INTERIM = 64  # 1xx responses to one request; more are a fault, or keep the client waiting for ever
KEEP_IDLE = 64
IDLE_SECONDS = 30.0
WRITE_HIGH = 131072
VIEWED = 16384  # octets of one read from which a view of the body is passed on instead of a copy
_memory, _read = Reading.memory, Reading.whole


class ResponseReceiver(Protocol):
    """Receives the response to one request."""

    def interim(self, response_head: head.ResponseHead) -> None:
        """Receive an interim response (1xx), except 101."""

    def response(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> None:
        """Receive the head, with the part of the body from the same read. ``complete``: nothing follows.

        A long part is not copied, but a view of what was read, valid during this call only."""

    def response_body(self, data: bytes | memoryview) -> None:
        """Receive more of the body, without its framing; a long part as in ``response``."""

    def response_end(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def response_failed(self, reason: str) -> None:
        """The app closed early, or sent a malformed response. Nothing follows."""

    def app_writable(self, ready: bool) -> None:
        """Apply backpressure (``ready`` False), or lift it, on the request's body."""


class OwningPool(Protocol):
    """The pool that a connection belongs to (``upstream_pool.Pool``)."""

    replays: bool
    named: str
    unused: list["AppConnection"]

    def forget(self, connection: "AppConnection") -> None:
        """Remove the connection: it is closed, or a tunnel now."""


class AppConnection(asyncio.BufferedProtocol):
    """One connection to an app. ``used``: whether it has carried a response before (it may be closed by now);
    ``idle_limit``: seconds for which it may be idle and then reused."""

    __slots__ = (
        "_beside", "_buffer", "_decoder", "_framing", "_interim", "_late", "_left", "_method", "_parser", "_pool",
        "_reusable", "idle_limit", "receiver", "responding", "since", "transport", "unread", "used",
    )  # fmt: skip

    def __init__(self, pool: OwningPool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport | None = None
        self._parser = head_parser.ResponseParser(replays=pool.replays)
        self._buffer = bytearray()
        self._late: asyncio.TimerHandle | None = None  # ends the wait for the rest of a head
        self._interim = self._left = 0  # 1xx responses so far to the present request; octets of the body not yet read
        self._framing: str | None = None  # of the body being read; None: waiting for a head
        self._decoder: chunked.Decoder | None = None
        self._method = b""
        self._reusable = False
        self.idle_limit = IDLE_SECONDS
        self.receiver: ResponseReceiver | None = None
        self.responding = False  # a byte of the response has arrived
        self.used = False
        self.unread = False  # it was reset: the app closed it without reading all that was sent (tcp(7): else a FIN)
        self.since = 0.0  # when it became idle
        self._beside = KEEP_IDLE  # it is kept for reuse if fewer are; 0: never

    # --- requests ---

    def ask(self, receiver: ResponseReceiver, method: bytes, data: bytes) -> None:
        """Begin a request. ``data``: its head, maybe some of its body; empty if the caller sends that later."""
        self.receiver, self._method = receiver, method
        self._framing, self.responding = None, False
        if data and self.transport is not None:
            self.transport.write(data)

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def hold(self, held: bool) -> None:
        """Apply or lift backpressure on the app."""
        if self.transport is not None:
            if held:
                self.transport.pause_reading()
            elif not self.transport.is_reading():
                self.transport.resume_reading()

    def release(self, *, reuse: bool) -> None:
        """Return the connection to the pool, or close it. ``reuse``: whether the request was sent completely."""
        self.receiver = None
        if self.transport is None:
            return None
        if reuse and self._reusable and self._framing is None and not self._buffer and self.transport.is_reading():
            self.used, self.since = True, monotonic()
            idle = self._pool.unused
            if len(idle) < self._beside:
                return idle.append(self)
            self.close()
        else:
            self.transport.abort()
        return None

    def lend(self) -> tuple[asyncio.Transport, int]:
        """Return the transport, to splice the rest of the response body from, and the octets that have not arrived.

        The caller calls ``returned`` when all are moved, or ``release`` if that fails."""
        assert self.transport is not None
        assert self._framing is head.LENGTH
        return self.transport, self._left

    @property
    def unwritten(self) -> asyncio.Transport | None:
        """The transport, to splice a request's body to; None: closed, or its write buffer is not empty."""
        transport = self.transport
        return None if transport is None or transport.get_write_buffer_size() else transport

    def returned(self) -> None:
        self._left, self._framing = 0, None
        self.hold(False)

    def give_away(self) -> tuple[asyncio.Transport, bytes]:
        """Detach and return the transport, for a tunnel, and the bytes that the app has already sent after its 101."""
        transport, early = self.transport, bytes(self._buffer)
        assert transport is not None
        self._pool.forget(self)
        self.transport, self.receiver, self._buffer = None, None, bytearray()
        return transport, early

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def notice_silence(self, idle: int, taking: int) -> None:
        """Detect a peer host that vanishes without a FIN (tcp(7)). ``idle``: seconds of silence before keepalive
        probes; ``taking``: seconds in which sent data must be acknowledged, long because an app that is being started
        there reads nothing for a while."""
        if self.transport is not None:
            own = self.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, taking * 1000)

    @property
    def alive(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self.transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        if descriptors.number(transport) >= descriptors.bounds().crowded:
            self._beside = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return Reading.room

    def buffer_updated(self, octets: int) -> None:
        receiver, framing, long = self.receiver, self._framing, octets > VIEWED
        if receiver is None:
            return self.close()  # data without a request
        if framing is None:
            self.responding = True
            if long and not self._buffer and _memory.startswith(b"HTTP/1.1 2"):
                end = _memory.find(b"\r\n\r\n", 0, octets) + 4
                if end > 3:
                    return self._heads(receiver, bytes(_read[:end]), _read[end:octets])
            return self._heads(receiver, bytes(_read[:octets]))
        data = _read[:octets] if long and framing is head.LENGTH else bytes(_read[:octets])
        if framing is head.LENGTH:
            return self._counted(receiver, data)
        if framing is head.CHUNKED:
            return self._chunks(receiver, bytes(data))
        return receiver.response_body(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._stop_late()
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

    def _heads(self, receiver: ResponseReceiver, data: bytes, view: memoryview | None = None) -> None:
        """Handle ``data``, which begins with a head. ``view``: what follows it, if that is long: then ``data`` is one
        final head."""
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
        self.idle_limit = IDLE_SECONDS if hint is None else head_parser.idle_seconds(hint[0], IDLE_SECONDS)
        body = data[end:] if view is None else view
        if response_head.framing is head.LENGTH and len(body) <= response_head.length:
            self._left = left = response_head.length - len(body)
            self._framing = head.LENGTH if left else None
            return receiver.response(response_head, body, not left)
        return self._first(receiver, response_head, bytes(body))

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
        self._stop_late()
        return data

    def _hold_start(self, receiver: ResponseReceiver, data: bytes, start: int) -> None:
        """Keep the start of a head. ``start``: offset of the unchecked part."""
        self._buffer += data
        if len(self._buffer) > HEAD_LIMIT or not head_parser.may_start_response(self._buffer, start):
            self._broken(receiver, "the app's response is not HTTP/1.1")
        elif self._late is None:
            why = f"{self._pool.named} sent only a part of a response's head within {HEAD_SECONDS:g} s"
            self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._broken, receiver, why)

    def _stop_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

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

    def _counted(self, receiver: ResponseReceiver, data: bytes | memoryview) -> None:
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
        self._stop_late()
        self.close()
        receiver.response_failed(reason)
