"""An aiohttp application served on given connections, with limits on clients that aiohttp does not have: their number,
the time in which they must accept data, no processes of apps.

It is imported, with aiohttp, at the first connection: that costs 0.2 s of CPU and 13 MB."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, cast

import msgspec
from aiohttp import web

from flyatc.control import refuse_apps

LARGEST_BODY = 1 << 20  # bytes
LONGEST_LINE = 32 << 10  # bytes of a request line, and of a header
HEAD_SECONDS = 30.0  # for a head to arrive: on a new connection, and after a response
WRITE_SECONDS = 30.0  # in which a client has to accept some data
LINGER_SECONDS = 1.0  # for the rest of a body that no handler reads
MOST_CONNECTIONS = 100
PIECE = 64 << 10  # bytes of one write
ROOM = 64 << 10  # unsent bytes up to which a write does not wait: the limit of aiohttp, and of asyncio
REFUSED_SECONDS = 5.0  # for a request that is refused whatever it says

_SILENT = logging.Logger("aiohttp")  # what it reports are faults of clients; ours are caught before
_SILENT.disabled = True

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves ``app``. ``ancestors``: returns the pids whose descendants are processes of apps, which are refused; None:
    no such check."""

    def __init__(self, app: web.Application, ancestors: Callable[[], Container[int]] | None = None) -> None:
        self._ancestors = ancestors
        app.middlewares.insert(0, self._count)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=HEAD_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            auto_decompress=False,
            handler_cancellation=True,  # a client that disconnects cancels the call
            shutdown_timeout=LINGER_SECONDS,
        )
        self._calls: set[asyncio.Task[Any]] = set()
        self._busy: set[asyncio.BaseTransport] = set()  # with a call under way
        self._unsent: dict[asyncio.Transport, tuple[int, float]] = {}  # all connections: octets, and since when

    async def open(self) -> None:
        await self._runner.setup()

    def connect(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        return _Admission(self._refusal, self._runner.server, self._unsent)

    async def close(self) -> None:
        """Abort all connections, and wait for the end of the calls."""
        for transport in self._unsent:
            transport.abort()
        if self._calls:
            await asyncio.wait(self._calls)
        await self._runner.cleanup()

    def sweep(self) -> None:
        """Forget connections that are closed; cut those that accept no data, unless a call is under way: ``write`` has
        a limit of its own, and a restore goes on while its operator's terminal is stopped."""
        now = monotonic()
        for transport, (before, since) in list(self._unsent.items()):
            left = transport.get_write_buffer_size()
            if not left and transport.is_closing():
                del self._unsent[transport]
            elif not left or left != before or transport in self._busy:
                self._unsent[transport] = left, now
            elif now - since > WRITE_SECONDS:
                transport.abort()

    def _refusal(self, transport: asyncio.Transport) -> tuple[int, str] | None:
        if self._ancestors is not None and refuse_apps.is_of_app(transport, self._ancestors()):
            return 403, "the processes of an app may not command the daemon"
        if len(self._unsent) >= MOST_CONNECTIONS:
            self.sweep()
            if len(self._unsent) >= MOST_CONNECTIONS:
                return 503, f"there are {MOST_CONNECTIONS} connections already: try later"
        return None

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        call, transport = asyncio.current_task(), request.transport
        if call is None or transport is None:
            raise ConnectionResetError
        self._calls.add(call)
        self._busy.add(transport)
        try:
            return await handler(request)
        finally:
            self._calls.discard(call)
            self._busy.discard(transport)


async def offer(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send data, or drop it where that would have to wait for the client."""
    if request.transport is not None and request.transport.get_write_buffer_size() + len(data) < ROOM:
        await response.write(data)


async def write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send data as the client accepts it. Raises ConnectionError if it accepts none for WRITE_SECONDS."""
    for piece in _pieces(data):
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(piece)
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read") from error


async def send_file(request: web.Request, file: Path, headers: Mapping[str, str]) -> web.StreamResponse:
    """Respond with a file. Raises ConnectionError if it cannot be sent to the end: the client sees that it is not
    whole."""
    with await asyncio.to_thread(file.open, "rb") as opened:
        response = web.StreamResponse(headers=headers)
        response.content_length = left = os.fstat(opened.fileno()).st_size
        await response.prepare(request)
        try:
            while left:
                piece = await asyncio.to_thread(opened.read, min(left, 4 * PIECE))
                if not piece:
                    raise EOFError
                await write(request, response, piece)
                left -= len(piece)
            await response.write_eof()
        except BaseException as error:
            if request.transport is not None:
                request.transport.abort()
            if isinstance(error, Exception):
                raise ConnectionResetError("the file was not sent to the end") from error
            raise
    return response


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + PIECE] for at in range(0, len(view), PIECE))


class _Admission(asyncio.Protocol):
    """A new connection, until it is handed to aiohttp, or refused."""

    def __init__(
        self,
        refusal: Callable[[asyncio.Transport], tuple[int, str] | None],
        server: Callable[[], asyncio.Protocol] | None,
        known: dict[asyncio.Transport, tuple[int, float]],
    ) -> None:
        self._judge, self._server, self._known = refusal, server, known
        self._refusal = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        refusal = self._judge(self._transport)
        if refusal is None and self._server is not None:
            self._known[self._transport] = 0, monotonic()
            protocol = self._server()
            self._transport.set_protocol(protocol)
            return protocol.connection_made(transport)
        status, text = refusal or (503, "the daemon is shutting down")
        body = msgspec.json.encode({"error": text})
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._refusal = f"{head}\r\nConnection: close\r\n\r\n".encode() + body
        self._timer = asyncio.get_running_loop().call_later(REFUSED_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._refusal)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
