"""A client connection: reads requests one at a time, writes responses, enforces time limits.

The connection reads a head, passes a ``Request`` to the handler and waits for its end; what the client sends ahead
(pipelining) stays in the buffer. Nothing here awaits: a warm request needs no task.
"""

import asyncio
import socket
import struct
from time import monotonic
from typing import cast

from flyatc.wire import chunked, head, head_parser, server, target
from flyatc.wire.errors import BadMessage

LINGER_SECONDS = 2.0  # after a last response, input is read and discarded, so that no RST destroys the response
LONGEST_LINGER_SECONDS = 30.0
AHEAD_OCTETS = 65536  # how much of the next requests is read ahead
TURN = 16  # pipelined requests handled in one turn of the loop, so that other connections progress
_RESET = struct.pack("ii", 1, 0)  # struct linger, socket(7): close(2) sends RST


class Connection(asyncio.Protocol):
    __slots__ = (
        "_buffer", "_decoder", "_deep", "_feeding", "_held", "_lingering", "_octets", "_parser", "_paused", "_request",
        "_since", "_stalled", "_taken", "_turn", "_unsent", "peer", "server", "transport",
    )  # fmt: skip

    def __init__(self, of: server.Server) -> None:
        self.server = of
        self.peer = ""
        self.transport: asyncio.Transport | None = None
        self._parser = head_parser.RequestParser()
        self._buffer = bytearray()  # the start of a head, or pipelined requests
        self._request: server.Request | None = None
        self._decoder: chunked.Decoder | None = None
        self._octets = 0  # of the present body: not yet received (LENGTH), or received so far (CHUNKED)
        self._feeding = False  # the body is passed to the receiver
        self._held = False  # the receiver applies backpressure
        self._paused = False  # reading of the transport is paused
        self._stalled = False  # the write buffer is full: no more requests are begun
        self._unsent, self._taken = 0, 0.0  # octets in the write buffer at the last check; when that number changed
        self._since = monotonic()  # the time of the last progress
        self._lingering = 0.0  # since when; 0: not lingering
        self._deep = False
        self._turn: asyncio.Handle | None = None  # continues with pipelined requests

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self.transport = transport
        transport.set_write_buffer_limits(high=server.WRITE_HIGH)
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""
        if self.peer.startswith("::ffff:"):
            self.peer = self.peer[7:]
        self.server.admit(self)

    def data_received(self, data: bytes) -> None:
        request = self._request
        if request is None and not self._stalled and not self._lingering and self._turn is None:
            if self._buffer:
                return self._more_of_head(data)  # the clock of header_timeout runs since the first byte
            self._since = monotonic()
            self._heads(data)
        elif self._lingering:
            self._since = monotonic()
        elif request is not None and self._feeding and not request.body_done and not self._buffer:
            self._body(data)
        else:
            self._buffer += data
            if len(self._buffer) > AHEAD_OCTETS:
                self._pause(True)

    def eof_received(self) -> bool:
        """Close: a client that half-closes is treated as gone. A vanished one looks the same and keeps an app busy."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.server.forget(self)
        self.transport = None
        if self._turn is not None:
            self._turn.cancel()
        request, self._request = self._request, None
        if request is not None and request.receiver is not None:
            request.receiver.gone()

    def pause_writing(self) -> None:
        self._stalled = True
        if self._request is not None and self._request.receiver is not None:
            self._request.receiver.writable(False)

    def resume_writing(self) -> None:
        self._stalled = False
        if self._request is None:
            self._next()
        elif self._request.receiver is not None:
            self._request.receiver.writable(True)

    # --- heads ---

    def _more_of_head(self, data: bytes) -> None:
        """Append to the start of a head. Searches only the new bytes: a head may arrive octet by octet."""
        start = len(self._buffer) - 3
        self._buffer += data
        if start < 0 or self._buffer.find(b"\r\n\r\n", start) >= 0:
            return self._heads(self._taken_out())
        try:
            return target.check_start(self._buffer, start, self.server.limits.request_header)
        except BadMessage as fault:
            return self._refuse(fault, bytes(self._buffer))

    def _heads(self, data: bytes) -> None:
        """Handle one request from the front of ``data``; the rest waits in the buffer."""
        if data[:2] == b"\r\n":  # RFC 9112 §2.2
            data = data[2:]
        end = data.find(b"\r\n\r\n")
        try:
            if end < 0:
                self._buffer += data
                return target.check_start(self._buffer, 0, self.server.limits.request_header)
            end += 4
            if end > self.server.limits.request_header:
                raise BadMessage(431, "the request's head is too large")
            one = data if end == len(data) else data[:end]
            if end < len(data):
                self._buffer += memoryview(data)[end:]
            found = self._parser.parse(one)
        except BadMessage as fault:
            return self._refuse(fault, data)
        self._request = request = self.server.request(self, found)
        self._feeding = self._held = False
        self._decoder, self._octets = None, found.length
        if found.framing is head.CHUNKED:
            self._decoder = chunked.Decoder()
        self.server.handle(request)

    def _refuse(self, fault: BadMessage, data: bytes) -> None:
        """Respond to a malformed request, and end the connection."""
        if self.transport is not None:
            self.transport.write(self.server.refuse(self, fault, data))
        self._linger()

    # --- bodies ---

    def read_body(self) -> None:
        request = self._request
        if request is None or request.body_done:
            return
        self._feeding = True
        self._since = monotonic()
        self._pause(self._held)
        if self._buffer:
            self._body(self._taken_out())

    def hold_body(self, held: bool) -> None:
        self._held = held
        self._since = monotonic()
        if self._request is not None and not self._request.body_done:
            self._pause(held)

    def body_left(self) -> int:
        return 0 if self._decoder is not None else self._octets - len(self._buffer)

    def lend_body(self) -> tuple[asyncio.Transport, bytes]:
        assert self.transport is not None
        first = self._taken_out()
        self._octets -= len(first)
        self._feeding, self._since = True, monotonic()
        self._pause(True)
        return self.transport, first

    def body_returned(self) -> None:
        self._octets, self._since = 0, monotonic()
        if self._request is not None:
            self._request.body_done = True
        self._pause(False)

    def _body(self, data: bytes) -> None:
        request = self._request
        assert request is not None
        receiver = request.receiver
        assert receiver is not None
        self._since = monotonic()
        if self._decoder is not None:
            return self._chunks(request, receiver, self._decoder, data)
        left = self._octets
        if len(data) > left:
            self._buffer += memoryview(data)[left:]
            data = data[:left]
        self._octets = left - len(data)
        if not self._octets:
            request.body_done = True
        receiver.body(data)
        if request.body_done and self._request is request:
            receiver.body_end([])

    def _chunks(
        self, request: server.Request, receiver: server.Receiver, decoder: chunked.Decoder, data: bytes
    ) -> None:
        limit = self.server.limits.request_body
        try:
            pieces = decoder.feed(data)
            self._octets += sum(map(len, pieces))
            if limit and self._octets > limit:
                raise BadMessage(413, f"the body is larger than {limit} bytes")
            trailers = decoder.trailers if decoder.done else []
        except BadMessage as fault:
            return receiver.body_failed(fault)
        if decoder.done:
            request.body_done = True
            self._buffer += decoder.rest
        if pieces:
            receiver.body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if request.body_done and self._request is request:
            receiver.body_end(trailers)

    # --- responses ---

    def finished(self, close: bool) -> None:
        """End the present response; then handle the next request, or close."""
        request, self._request = self._request, None
        if request is None or self.transport is None:
            return None
        if not request.body_done:
            return self._linger()
        if close:
            return self._linger() if self._buffer else self.transport.close()
        if self._buffer or self._paused:
            return self._next()
        self._since = monotonic()
        return None

    def _next(self) -> None:
        """Handle pipelined requests one after the other, without recursion. Stop while the client does not read the
        responses: a pipeline must not fill the memory."""
        self._since = monotonic()
        if self._stalled or self._lingering or self._deep or self._turn is not None:
            return
        self._pause(False)
        if not self._buffer:
            return
        self._deep = True
        try:
            for _ in range(TURN):
                if self._request is not None or self._stalled or self._lingering or not self._buffer:
                    return
                data = self._taken_out()
                self._heads(data)
                if len(self._buffer) == len(data):
                    return  # the head is incomplete
        finally:
            self._deep = False
        self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if self._request is None:
            self._next()

    def _taken_out(self) -> bytes:
        """Return the content of the buffer, and empty it."""
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    def give_away(self) -> tuple[asyncio.Transport, bytes]:
        transport, ahead = self.transport, self._taken_out()
        assert transport is not None
        self.server.forget(self)
        self.transport, self._request = None, None
        return transport, ahead

    # --- ends ---

    def _linger(self) -> None:
        """Send what is written, then FIN; read on for a moment, since closing with unread bytes sends an RST."""
        self._request, self._buffer = None, bytearray()
        self._lingering = self._since = monotonic()
        if self.transport is not None:
            self._pause(False)
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def abort(self) -> None:
        """Close by an RST: for an HTTP/1.0 client a FIN would be the regular end of the body."""
        if self.transport is not None:
            own = self.transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def close_if_idle(self) -> None:
        if self._request is None and not self._buffer and self.transport is not None:
            self.transport.close()

    @property
    def idle_since(self) -> float | None:
        """When it became idle (monotonic), though a head may have begun; None: it has a request or unsent data."""
        transport = self.transport
        busy = self._request is not None or transport is None or transport.get_write_buffer_size()
        return None if busy else self._since

    def check(self, now: float) -> None:
        """Enforce the time limits. ``now``: monotonic."""
        transport, request = self.transport, self._request
        if transport is None:
            return
        limits, past = self.server.limits, now - self._since
        if transport.get_write_buffer_size():
            self._check_taking(transport, limits.write_timeout, now)
            return
        self._unsent = 0
        if self._lingering:
            if past > LINGER_SECONDS or now - self._lingering > LONGEST_LINGER_SECONDS:
                transport.abort()
        elif request is None:
            if self._buffer:
                if limits.header_timeout and past > limits.header_timeout:
                    self._refuse(BadMessage(408, "the request's head did not arrive in time"), bytes(self._buffer))
            elif limits.idle_timeout and past > limits.idle_timeout:
                transport.close()
        elif (
            limits.body_timeout
            and past > limits.body_timeout
            and self._awaits_body(request)
            and request.receiver is not None
        ):
            request.receiver.body_failed(BadMessage(408, "the request's body stopped arriving"))

    def _check_taking(self, transport: asyncio.Transport, limit: float, now: float) -> None:
        unsent = transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._taken = unsent, now
        elif limit and now - self._taken > limit:
            transport.abort()

    def _awaits_body(self, request: server.Request) -> bool:
        if request.moving is not None:
            past = monotonic() - max(request.moving.progress, self._since)
            return request.moving.awaits_source and past > self.server.limits.body_timeout
        return self._feeding and not self._held and not request.body_done

    def _pause(self, paused: bool) -> None:
        if paused is not self._paused and self.transport is not None:
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
