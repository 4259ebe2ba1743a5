"""The state of a client connection, and all that can end it: time limits, the bound for memory, a last response."""

import asyncio
import contextlib
import socket
import struct
from time import monotonic
from typing import cast

from flyatc.wire import buffers, chunked, head_parser, server
from flyatc.wire.errors import BadMessage

LINGER_SECONDS = 2.0  # after a last response, input is read and discarded, so that no RST destroys the response
LONGEST_LINGER_SECONDS = 30.0
_RESET = struct.pack("ii", 1, 0)  # struct linger, socket(7): close(2) sends RST


class ConnectionState(asyncio.Protocol):
    """Base of ``connection.Connection``, which reads and responds."""

    __slots__ = (
        "_buffer", "_decoder", "_deep", "_feeding", "_held", "_lingering", "_octets", "_parser", "_paused", "_request",
        "_shed", "_since", "_stalled", "_taken", "_turn", "_unsent", "peer", "server", "transport",
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
        self._shed = False  # aborted, to free its memory
        self._lingering = 0.0  # since when; 0: not lingering
        self._deep = False
        self._turn: asyncio.Handle | None = None  # continues with pipelined requests

    def _refuse(self, fault: BadMessage, data: bytes) -> None:
        """Respond to a malformed request, and end the connection."""
        if self.transport is not None:
            self.transport.write(self.server.refuse(cast("server.Connection", self), fault, data))
        self._linger()

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
            with contextlib.suppress(OSError):  # it is closed already
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def close_if_idle(self) -> None:
        if self._request is None and not self._buffer and self.transport is not None:
            self.transport.close()

    def held(self) -> int:
        if self._shed:
            return 0  # its transport frees its memory in the next turn of the loop
        octets, request = len(self._buffer), self._request
        if self.transport is not None:
            octets += self.transport.get_write_buffer_size()
        if request is not None:
            octets += request.head.size * buffers.COPIES + (buffers.ONE_SIDE if self._held else 0)
        return octets

    def still_since(self) -> float:
        return max(self._since, self._taken)

    def shed(self) -> None:
        if self._request is None and not self._stalled and not self._lingering:
            self._refuse(BadMessage(503, "too many requests are unfinished"), bytes(self._buffer))
        else:
            self._shed, self._buffer = True, bytearray()
            self.abort()

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
