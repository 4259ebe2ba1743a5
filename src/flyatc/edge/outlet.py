"""How the body of an answer goes to the visitor encoded: in one step where it is short, else slice by slice."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from flyatc.delivery.encoders import SLICE, Encoder
from flyatc.wire import chunked, server

WHOLE = 65536  # octets of a body that is encoded in one step, where all of it is there


class Source(Protocol):
    """Where the body comes from."""

    def hold(self, held: bool) -> None:
        """Backpressure: nothing more for now."""


class Outlet:
    """Takes the body's pieces. Small ones go out at once; of large ones a slice in each turn of the loop, so that
    other visitors get theirs. Meanwhile, and while the visitor takes nothing, the source is held; what still comes
    waits.

    ``chunks``: in the chunked coding, else as it is; ``trailers``: what is left of trailer lines; ``done``: called once
    when all is sent, unless it is closed before."""

    __slots__ = (
        "_chunks", "_done", "_encoder", "_end", "_queue", "_ready", "_request", "_source", "_steps", "_trailers",
        "_turn",
    )  # fmt: skip

    def __init__(
        self,
        request: server.Request,
        source: Source,
        encoder: Encoder,
        *,
        chunks: bool,
        trailers: Callable[[list[bytes]], list[bytes]],
        done: Callable[[], None],
    ) -> None:
        self._request, self._source, self._encoder = request, source, encoder
        self._chunks, self._trailers, self._done = chunks, trailers, done
        self._queue: deque[bytes] = deque()
        self._steps: Iterator[bytes] | None = None  # of the piece at work
        self._end: list[bytes] | None = None  # the trailers: all pieces have come
        self._ready = True  # the visitor takes more
        self._turn: asyncio.Handle | None = None

    def body(self, data: bytes) -> None:
        if len(data) <= SLICE and not self._busy:
            return self._send(self._encoder.feed(data))
        self._queue.append(data)
        self._source.hold(True)
        return self._go_on()

    def end(self, trailers: list[bytes]) -> None:
        """All pieces have come."""
        self._end = trailers
        if not self._busy:
            self._finish(trailers)

    def writable(self, ready: bool) -> None:
        """The visitor's backpressure."""
        self._ready = ready
        if not ready:
            self._source.hold(True)
        elif self._busy:
            self._go_on()
        else:
            self._source.hold(False)

    def close(self) -> None:
        """Nothing more is to be sent."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    @property
    def _busy(self) -> bool:
        return self._steps is not None or bool(self._queue)

    def _go_on(self) -> None:
        if self._turn is None and self._ready:
            self._turn = asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._turn = None
        if self._steps is None:
            self._steps = self._encoder.slices(self._queue.popleft())
        made = next(self._steps, None)
        if made is None:
            self._steps = None
        else:
            self._send(made)  # the visitor's buffer may be full after that
        if self._busy:
            self._go_on()
        elif self._end is not None:
            self._finish(self._end)
        elif self._ready:
            self._source.hold(False)

    def _finish(self, trailers: list[bytes]) -> None:
        self._send(self._encoder.finish())
        if self._chunks:
            self._request.send(chunked.last(self._trailers(trailers)))
        self._done()

    def _send(self, data: bytes) -> None:
        if data:
            self._request.send(chunked.encode([data]) if self._chunks else data)
