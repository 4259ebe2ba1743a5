"""The control API as an aiohttp application: from a route to its responses."""

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from flyatc.control import http_server
from flyatc.control.api import Call, Event, Failure, File, Route, Stream, Text, Work, status_of, step
from flyatc.control.http_server import LARGEST_BODY, HttpServer
from flyatc.control.openapi import EVENTS, JSON, LINES
from flyatc.control.requests import BadRequest, Nothing
from flyatc.control.types import Operations
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log

BODY_SECONDS = 10.0
MOST_STEPS = 256  # of progress which wait to be sent

_HEADERS = {"Cache-Control": "no-store", "Server": "flyatc"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def server(
    routes: Iterable[Route], operations: Operations, log: Log, ancestors: Callable[[], Container[int]] | None = None
) -> HttpServer:
    """Return a server of the routes, not open yet. ``ancestors``: see HttpServer."""
    return HttpServer(_Api(routes, operations, log).app, ancestors)


class _Api:
    def __init__(self, routes: Iterable[Route], operations: Operations, log: Log) -> None:
        self._operations, self._log = operations, log
        self.app = web.Application(client_max_size=LARGEST_BODY, middlewares=[self._guard])
        for route in routes:
            self.app.router.add_route(route.method, route.path, self._handler(route))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ConnectionError:
            raise
        except web.HTTPException as error:
            return _json(Failure(_named(error, request)), error.status)
        except Exception as error:  # every error is reported to the operator
            return _json(*self._failure(request, error))

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
            case File():
                return partial(self._file, route)
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

    async def _file(self, route: File[Any, Any], request: web.Request) -> web.StreamResponse:
        async with route.handle(self._operations, await _taken(route, request)) as file:
            return await http_server.send_file(request, file, {**_HEADERS, "Content-Type": route.kind})

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
                    await http_server.offer(request, response, b"".join(steps))
                    steps.clear()
        finally:
            work.cancel()
            await asyncio.wait([work])
        found = work.result()
        if response is None and isinstance(found, Exception):
            raise found
        last = self._failure(request, found)[0] if isinstance(found, Exception) else found
        response = response or await _begun(request, LINES)
        await http_server.write(request, response, msgspec.json.encode(last) + b"\n")
        return response

    async def _stream(self, route: Stream[Any, Any], request: web.Request) -> web.StreamResponse:
        taken, after = await _taken(route, request), request.headers.get("Last-Event-ID")
        response = await _begun(request, EVENTS)
        try:
            async for events in route.handle(self._operations, taken, after):
                await http_server.write(request, response, b"".join(map(_encoded, events)))
        except ConnectionError:
            raise
        except Exception as error:  # the response has begun: the error is its last event
            failure = msgspec.json.encode(self._failure(request, error)[0])
            await http_server.write(request, response, b"event: error\ndata: " + failure + b"\n\n")
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


def _encoded(event: Event) -> bytes:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""
    if not event.data:
        return b":\n\n"
    return b"".join((b"id: ", event.id.encode(), b"\ndata: ", event.data, b"\n\n"))
