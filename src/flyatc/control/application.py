"""The control API on aiohttp: from a route to its responses, with limits on clients.

The only module with aiohttp's server. It is imported at the first connection: that costs 0.2 s of CPU and 12 MB."""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Any, cast

import msgspec
from aiohttp import web
from msgspec import Struct

from flyatc.control import refuse_apps
from flyatc.control.api import Call, Event, Failure, Route, Stream, Text, Work, status_of, step
from flyatc.control.openapi import EVENTS, JSON, LINES
from flyatc.control.requests import BadRequest, Nothing
from flyatc.control.types import Operations
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log

LARGEST_BODY = 1 << 20  # bytes
LONGEST_LINE = 32 << 10  # bytes of a request line, and of a header
HEAD_SECONDS = 30.0  # for a head to arrive: on a new connection, and after a response
BODY_SECONDS = 10.0
WRITE_SECONDS = 30.0  # in which a client has to accept some data
LINGER_SECONDS = 1.0  # for the rest of a body that no route reads
MOST_CONNECTIONS = 100
MOST_STEPS = 256  # of progress which wait to be sent
PIECE = ROOM = (
    64 << 10
)  # bytes: of one write; unsent, up to which a write does not wait (aiohttp's and asyncio's limit)
REFUSED_SECONDS = 5.0  # for a request that is refused whatever it says

_HEADERS = {"Cache-Control": "no-store", "Server": "flyatc"}
_SILENT = logging.Logger("aiohttp")  # what it reports are faults of clients; ours are caught before
_SILENT.disabled = True

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Application:
    """Serves ``routes``. ``ancestors``: returns the pids whose descendants are processes of apps, which are refused;
    None: no such check."""

    def __init__(
        self,
        routes: Iterable[Route],
        operations: Operations,
        log: Log,
        ancestors: Callable[[], Container[int]] | None = None,
    ) -> None:
        self._operations, self._log, self._ancestors = operations, log, ancestors
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._guard])
        for route in routes:
            app.router.add_route(route.method, route.path, self._handler(route))
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=HEAD_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            auto_decompress=False,
            handler_cancellation=True,  # an operator who disconnects cancels the command
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
        """Forget connections that are closed; cut those that accept no data, unless a call is under way: streams have a
        limit of their own, and a restore goes on while its operator's terminal is stopped."""
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

    # --- calls ---

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        call, transport = asyncio.current_task(), request.transport
        if call is None or transport is None:
            raise ConnectionResetError
        self._calls.add(call)
        self._busy.add(transport)
        try:
            return await handler(request)
        except ConnectionError:
            raise
        except web.HTTPException as error:
            return _json(Failure(_named(error, request)), error.status)
        except Exception as error:  # every error is reported to the operator
            return _json(*self._failure(request, error))
        finally:
            self._calls.discard(call)
            self._busy.discard(transport)

    def _failure(self, request: web.Request, error: Exception) -> tuple[Failure, int]:
        if isinstance(error, FlyatcError):
            return Failure(str(error).encode(errors="replace").decode()), status_of(error)  # file names may be no UTF-8
        trace = "".join(traceback.format_exception(error))
        where = f"{request.method} {request.path}"
        self._log.event("error", "an operator's call failed: a bug in flyatc", call=where, error=trace)
        return Failure(f"a bug in flyatc: {type(error).__name__}; the daemon's log says more"), 500

    def _handler(self, route: Route) -> Handler:
        match route:
            case Call():
                return partial(self._call, route)
            case Text():
                return partial(self._text, route)
            case Work():
                return partial(self._work, route)
            case Stream():
                return partial(self._stream, route)

    async def _call(self, route: Call[Any, Any], request: web.Request) -> web.Response:
        found = await route.handle(self._operations, await _taken(route, request))
        return _json(found, route.status(found))

    async def _text(self, route: Text[Any, Any], request: web.Request) -> web.Response:
        body = await route.handle(self._operations, await _taken(route, request))
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": route.kind})

    async def _work(self, route: Work[Any, Any], request: web.Request) -> web.StreamResponse:
        """Send progress as it comes: steps that the client does not keep up with are dropped. An error before the first
        step has a status; later it is the last line."""
        steps: deque[bytes] = deque(maxlen=MOST_STEPS)
        more = asyncio.Event()

        def progress(name: str, done: int, total: int) -> None:
            steps.append(step(name, done, total) + b"\n")
            more.set()

        work = tasks.start(_run(route, self._operations, await _taken(route, request), progress), "operator's call")
        work.add_done_callback(lambda _: more.set())
        response: web.StreamResponse | None = None
        try:
            while not work.done() or steps:
                await more.wait()
                more.clear()
                if steps:
                    response = response or await _begun(request, LINES)
                    await _offer(request, response, b"".join(steps))
                    steps.clear()
        finally:
            work.cancel()
            await asyncio.wait([work])
        found = work.result()
        if response is None and isinstance(found, Exception):
            raise found
        last = self._failure(request, found)[0] if isinstance(found, Exception) else found
        response = response or await _begun(request, LINES)
        await _write(request, response, msgspec.json.encode(last) + b"\n")
        return response

    async def _stream(self, route: Stream[Any, Any], request: web.Request) -> web.StreamResponse:
        taken, after = await _taken(route, request), request.headers.get("Last-Event-ID")
        response = await _begun(request, EVENTS)
        try:
            async for events in route.handle(self._operations, taken, after):
                await _write(request, response, b"".join(map(_encoded, events)))
        except FlyatcError as error:
            failure = msgspec.json.encode(self._failure(request, error)[0])
            await _write(request, response, b"event: error\ndata: " + failure + b"\n\n")
        return response


async def _run(route: Work[Any, Any], operations: Operations, taken: Any, progress: Any) -> Struct | Exception:
    try:
        found: Struct = await route.handle(operations, taken, progress)
    except Exception as error:
        return error
    return found


async def _taken(route: Route, request: web.Request) -> Any:
    """Decode the query of a GET, the body of a POST. Raises BadRequest."""
    if route.takes is Nothing:
        return Nothing()
    if route.method == "GET":
        try:
            return msgspec.convert(dict(request.query), route.takes, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(f"the query is not what {route.path} takes: {error}") from error
    try:
        return msgspec.json.decode(await _body(request), type=route.takes)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not what {route.path} takes: {error}") from error


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > LARGEST_BODY:
        raise BadRequest(f"the body is larger than {LARGEST_BODY} bytes", 413)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise BadRequest(f"the body did not arrive within {BODY_SECONDS:g} s", 408) from error
    except web.RequestPayloadError as error:
        raise BadRequest("the body is malformed") from error


def _named(error: web.HTTPException, request: web.Request) -> str:
    match error.status:
        case 404:
            return f"there is nothing at {request.path}"
        case 405:
            return f"{request.path} takes another method than {request.method}"
        case 413:
            return f"the body is larger than {LARGEST_BODY} bytes"
    return error.reason


# --- responses ---


def _json(found: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(found), headers={**_HEADERS, "Content-Type": JSON})


async def _begun(request: web.Request, kind: str) -> web.StreamResponse:
    """Send the head of a response that goes on."""
    response = web.StreamResponse(headers={**_HEADERS, "Content-Type": kind})
    await response.prepare(request)
    return response


async def _offer(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send data, or drop it where that would have to wait for the client."""
    if request.transport is not None and request.transport.get_write_buffer_size() + len(data) < ROOM:
        await response.write(data)


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send data as the client accepts it. Raises ConnectionError if it accepts none for WRITE_SECONDS."""
    for piece in _pieces(data):
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(piece)
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read") from error


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + PIECE] for at in range(0, len(view), PIECE))


def _encoded(event: Event) -> bytes:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""
    if not event.data:
        return b":\n\n"
    return b"".join((b"id: ", event.id.encode(), b"\ndata: ", event.data, b"\n\n"))


# --- connections ---


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
        body = msgspec.json.encode(Failure(text))
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}"
        self._refusal = f"{head}\r\nConnection: close\r\n\r\n".encode() + body
        self._timer = asyncio.get_running_loop().call_later(REFUSED_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._refusal)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
