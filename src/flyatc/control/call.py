"""One call of the control API: read its body, run its coroutine, send the response whole or line by line."""

import asyncio
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl

from msgspec import Struct

from flyatc.kit import tasks
from flyatc.wire import chunked, response, server
from flyatc.wire.errors import BadMessage

LARGEST_BODY = 1 << 20
MOST_FIELDS = 16  # in a query
JSON = "application/json"
LINES = "application/x-ndjson"


class ApiResponse(Struct, frozen=True):
    status: int
    body: bytes
    kind: str = JSON


class Handler(Protocol):
    async def answer(self, call: "Call") -> ApiResponse | None:
        """Response to a call; None: it has sent lines. May raise anything."""

    def fault(self, call: "Call", error: Exception) -> ApiResponse:
        """Response to an error: the whole response, or the last line of one that has begun."""


class Call:
    """A call and its response. ``query``: the last value of each name."""

    def __init__(self, request: server.Request) -> None:
        self._request = request
        self._writable = asyncio.Event()
        self._writable.set()
        self._begun = False
        self.method = request.head.method.decode("latin-1")
        self.path = request.head.path.decode("latin-1")
        self.body = b""

    @property
    def query(self) -> dict[str, str]:
        text = (self._request.head.query or b"").decode("latin-1")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
        except ValueError as error:
            raise BadMessage(400, "the query has too many fields") from error

    async def write(self, data: bytes) -> None:
        """Send whole lines, and wait until the buffer has room. Empty ``data`` sends just the head."""
        self._send(data)
        await self._writable.wait()

    def offer(self, line: bytes) -> None:
        """Send a line, or drop it if the client does not keep up."""
        if self._writable.is_set():
            self._send(line)

    def writable(self, ready: bool) -> None:
        if ready:
            self._writable.set()
        else:
            self._writable.clear()

    def end(self, last: ApiResponse | None) -> None:
        """End the response. ``last`` None: the lines are complete."""
        if not self._begun and last is not None:
            return self._whole(last)
        self._send(b"" if last is None else last.body + b"\n")
        if self._chunked:
            self._request.send(chunked.LAST)
        self._request.end_response(close=self._close)

    @property
    def _chunked(self) -> bool:
        return self._request.head.minor >= 1

    @property
    def _close(self) -> bool:
        return not self._chunked or not self._request.keep_alive or not self._request.body_done

    def _whole(self, last: ApiResponse) -> None:
        headers = [(b"Content-Type", last.kind.encode()), (b"Cache-Control", b"no-store")]
        close, head_only = self._close, self._request.head.method == b"HEAD"
        self._request.send(response.build(last.status, headers, last.body, head_only=head_only, close=close))
        self._request.end_response(close=close)

    def _send(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._request.send(self._head())
        if data:
            self._request.send(chunked.encode([data]) if self._chunked else data)

    def _head(self) -> bytes:
        parts = [
            b"HTTP/1.1 200 OK",
            response.date_line(),
            b"\r\nContent-Type: ",
            LINES.encode(),
            b"\r\nCache-Control: no-store",
        ]
        if self._chunked:
            parts.append(b"\r\nTransfer-Encoding: chunked")
        if self._close:
            parts.append(b"\r\nConnection: close")
        return b"".join([*parts, b"\r\n\r\n"])


class Exchange:
    """The ``wire.server.Receiver`` of one call. ``over`` is called once the call has ended."""

    def __init__(self, request: server.Request, handler: Handler, over: Callable[["Exchange"], None]) -> None:
        self._request, self._handler, self._over = request, handler, over
        self._call = Call(request)
        self._pieces: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._request.receiver = self
        if self._request.head.length > LARGEST_BODY:  # chunked bodies are limited by wire
            self.body_failed(BadMessage(413, f"the body is larger than {LARGEST_BODY} bytes"))
        elif self._request.body_done:
            self.body_end([])
        else:
            self._request.receive()

    def body(self, data: bytes) -> None:
        self._pieces.append(data)

    def body_end(self, trailers: list[bytes]) -> None:
        self._call.body = b"".join(self._pieces)
        self._task = tasks.start(self._run(), "operator's call")
        self._task.add_done_callback(lambda _: self._over(self))

    def body_failed(self, fault: BadMessage) -> None:
        self._call.end(self._handler.fault(self._call, fault))
        self._over(self)

    def writable(self, ready: bool) -> None:
        self._call.writable(ready)

    def gone(self) -> None:
        if self._task is None:
            self._over(self)
        else:
            self._task.cancel()

    async def cut(self) -> None:
        """Abort the call, and wait for its end."""
        self._request.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            last = await self._handler.answer(self._call)
        except Exception as error:  # every error is reported to the operator
            last = self._handler.fault(self._call, error)
        self._call.end(last)
