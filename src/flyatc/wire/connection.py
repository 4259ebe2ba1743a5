"""A client connection: reads requests one at a time, writes responses, enforces time limits.

The connection reads a head, passes a ``Request`` to the handler and waits for its end; what the client sends ahead
(pipelining) stays in the buffer. Nothing here awaits: a warm request needs no task.
"""

import asyncio
from time import monotonic
from typing import cast

from flyatc.wire import buffers, chunked, connection_state, head, server, target
from flyatc.wire.errors import BadMessage

AHEAD_OCTETS = 65536  # how much of the next requests is read ahead
TURN = 16  # pipelined requests handled in one turn of the loop, so that other connections progress


class Connection(connection_state.ConnectionState):
    __slots__ = ()

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
            self.server.buffers.grown(len(data), self)

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
        self.server.buffers.grown(buffers.ONE_SIDE, self)
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
            target.check_start(self._buffer, start, self.server.limits.request_header)
        except BadMessage as fault:
            return self._refuse(fault, bytes(self._buffer))
        return self.server.buffers.grown(len(data), self)

    def _heads(self, data: bytes) -> None:
        """Handle one request from the front of ``data``; the rest waits in the buffer."""
        if data[:2] == b"\r\n":  # RFC 9112 §2.2
            data = data[2:]
        end = data.find(b"\r\n\r\n")
        try:
            if end < 0:
                self._buffer += data
                target.check_start(self._buffer, 0, self.server.limits.request_header)
                return self.server.buffers.grown(len(data), self)
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
        if end > buffers.LARGE_HEAD:
            self.server.buffers.grown(end * buffers.COPIES, self)

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
            if held:
                self.server.buffers.grown(buffers.ONE_SIDE, self)

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
