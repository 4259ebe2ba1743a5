"""A TCP line which can be broken on purpose, in front of any server on loopback.

It lives in a thread of its own, so that tests with and without a loop can use it while daemons talk through it.
Faults hold for new connections and for those which are open:

- ``pass_through``: as if it were not there;
- ``refuse``: nobody listens; open connections are reset;
- ``black_hole``: what comes is swallowed, nothing is answered, nothing is closed;
- ``reset``: connections are accepted and reset;
- ``delay``: every piece comes so many seconds later;
- ``cut_after``: the next connection that has brought so many octets of answers is reset, once;
- ``lose_reply``: the next request arrives, and the connection is reset in place of its answer, once (a ``100 Continue``
  is none).
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

PIECE = 64 << 10
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends RST


class Line:
    """``port`` stands for ``target``. All methods may be called from any thread, and have taken hold on return."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._place = _bound(0)  # holds the port while nobody listens
        self.port: int = self._place.getsockname()[1]
        self._fault, self._delay = "", 0.0
        self._cut: int | None = None
        self._lose = threading.Event()
        self._never = asyncio.Event()  # held here: what waits for it alone would be collected as garbage
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault line")
        self._thread.start()
        self._do(self._listen())

    def pass_through(self) -> None:
        self._set("")

    def refuse(self) -> None:
        self._set("refuse")

    def black_hole(self) -> None:
        self._set("black hole")

    def reset(self) -> None:
        self._set("reset")

    def delay(self, seconds: float) -> None:
        self._set("", delay=seconds)

    def cut_after(self, octets: int) -> None:
        self._set("", cut=octets)

    def lose_reply(self) -> threading.Event:
        """The event is set when it has happened."""
        self._lose = lost = threading.Event()
        self._set("lose")
        return lost

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.close()

    # --- in the thread ---

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _set(self, fault: str, *, delay: float = 0.0, cut: int | None = None) -> None:
        self._do(self._take(fault, delay, cut))

    async def _take(self, fault: str, delay: float, cut: int | None) -> None:
        self._fault, self._delay, self._cut = fault, delay, cut
        if fault in ("refuse", "reset"):
            self._reset_all()
        if fault == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
        elif fault != "refuse" and self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._joined, sock=_bound(self.port))

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:  # who had come just now is begun meanwhile
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def _reset_all(self) -> None:
        for writer in tuple(self._open):
            _reset(writer)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, in both directions."""
        if self._fault == "reset":
            return _reset(writer)
        self._open.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            answers, far = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(far)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far, writer, answer=False))
                both.create_task(self._carry(answers, writer, writer, answer=True))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self._open.discard(end)
                    end.close()
        return None

    async def _carry(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, near: asyncio.StreamWriter, *, answer: bool
    ) -> None:
        carried = 0
        while piece := await reader.read(PIECE):
            if self._delay:
                await asyncio.sleep(self._delay)
            if self._fault == "black hole":
                continue
            carried += len(piece)
            if answer and self._breaks(piece, carried):
                return _reset(near)
            to.write(piece)
            await to.drain()
        if self._fault == "black hole":
            await self._never.wait()
        to.close()
        return None

    def _breaks(self, piece: bytes, carried: int) -> bool:
        if self._fault == "lose" and not (piece.startswith(b"HTTP/1.1 100") and piece.endswith(b"\r\n\r\n")):
            self._fault = ""
            self._lose.set()
            return True
        if self._cut is not None and carried > self._cut:
            self._cut = None
            return True
        return False


@contextlib.contextmanager
def line(target: int) -> Iterator[Line]:
    made = Line(target)
    try:
        yield made
    finally:
        made.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
