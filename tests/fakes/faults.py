"""A TCP line which can be broken on purpose, in front of any server on loopback.

It lives in a thread of its own, so that tests with and without a loop can use it while daemons talk through it.
Faults hold for new connections and for those which are open:

- ``pass_through``: as if it were not there;
- ``refuse``: no one listens; open connections are reset;
- ``black_hole``: what comes is swallowed, nothing is answered, nothing is closed;
- ``reset``: connections are accepted and reset;
- ``delay``: every piece comes so many seconds later;
- ``cut_after``: the next connection that has brought so many octets of answers is reset, once;
- ``lose_reply``: the next request arrives, and the connection is reset in place of its answer, once (a ``100 Continue``
  is none);
- ``end_after``: of the answers that come from now on exactly so many octets are passed on, then the connection that
  brings the next is closed, reset or silent; once;
- ``drip``: every octet of an answer comes so many seconds after the one before it;
- ``endless``: each request is answered by ``100 Continue`` for ever;
- ``cut_continue``: to each PUT comes part of ``100 Continue``, and the connection ends; the request does not arrive.

``interim`` puts a ``100 Continue`` before each answer, as a server may that was not asked for it.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Literal

PIECE = 64 << 10
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends RST


class Line:
    """``port`` stands for ``target``. All methods may be called from any thread, and have taken hold on return."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._place = _bound(0)  # holds the port while no one listens
        self.port: int = self._place.getsockname()[1]
        self._fault, self._delay = "", 0.0
        self._cut: int | None = None
        self._end_at: int | None = None
        self._then: int | None = None
        self._how: Literal["close", "reset", "stall"] = "close"
        self.interim = False
        self.asked = bytearray()  # all that clients have sent
        self.answered = 0  # octets of answers passed on since the last fault was set
        self.head = 0  # octets of the last answer's head, its empty line included
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

    def end_after(self, octets: int, how: Literal["close", "reset", "stall"], then: int | None = None) -> None:
        """``then``: so many octets later once more."""
        self._how, self._then = how, then
        self._set("end", cut=octets)

    def drip(self, seconds: float) -> None:
        self._set("drip", delay=seconds)

    def endless(self) -> None:
        self._set("endless")

    def aim(self, target: int) -> None:
        """New connections go there."""
        self._target = target

    def lose_reply(self) -> threading.Event:
        """The event is set when it has happened."""
        self._lose = lost = threading.Event()
        self._set("lose")
        return lost

    def cut_continue(self) -> None:
        self._set("continue")

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
        self.answered, self._end_at = 0, None
        if fault == "end":
            self._cut, self._end_at = None, cut
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
                owed = [False]
                both.create_task(self._carry(reader, far, writer, owed, answer=False))
                both.create_task(self._carry(answers, writer, writer, owed, answer=True))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self._open.discard(end)
                    end.close()
        return None

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        near: asyncio.StreamWriter,
        owed: list[bool],
        *,
        answer: bool,
    ) -> None:
        """``owed``: whether the next answer has an interim one before it."""
        carried = 0
        while piece := await reader.read(PIECE):
            if self._delay and self._fault != "drip":
                await asyncio.sleep(self._delay)
            if self._fault == "black hole":
                continue
            carried += len(piece)
            if self._breaks(piece, carried, near, answer=answer):
                return None
            if not answer:
                self.asked += piece
                owed[0] = self.interim
                if self._fault == "endless":
                    return await self._continue_for_ever(near)
            elif owed[0]:
                owed[0], piece = False, CONTINUE + piece
            if not await self._pass_on(piece, to, answer=answer):
                return None
        if self._fault == "black hole":
            await self._never.wait()
        to.close()
        return None

    async def _pass_on(self, piece: bytes, to: asyncio.StreamWriter, *, answer: bool) -> bool:
        """False: this connection is over, or silent for ever."""
        if answer and self._end_at is not None and self.answered + len(piece) > self._end_at:
            to.write(piece[: self._end_at - self.answered])
            self.answered, how = self._end_at, self._how
            self._end_at, self._then = (None if self._then is None else self.answered + self._then), None
            if how == "reset":
                await asyncio.sleep(0.001)  # what was written should come first
                _reset(to)
            elif how == "close":
                to.close()
            else:
                await self._never.wait()
            return False
        if answer and self._fault == "drip":
            for octet in piece:
                to.write(bytes([octet]))
                await asyncio.sleep(self._delay)
        else:
            if answer:  # before it is sent: who has got it all may ask
                self.answered += len(piece)
                if piece.startswith(b"HTTP/1.1 "):
                    self.head = len(piece.partition(b"\r\n\r\n")[0]) + 4
            to.write(piece)
        await to.drain()
        return True

    async def _continue_for_ever(self, near: asyncio.StreamWriter) -> None:
        while True:
            near.write(CONTINUE)
            await near.drain()
            await asyncio.sleep(0.001)  # a thousand a second: any more is only work for the processor

    def _breaks(self, piece: bytes, carried: int, near: asyncio.StreamWriter, *, answer: bool) -> bool:
        """Return whether the connection ends here, and is ended."""
        if not answer and self._fault == "continue" and piece.startswith(b"PUT "):
            near.write(CONTINUE[:-2])
            near.close()
            return True
        if answer and self._loses(piece, carried):
            _reset(near)
            return True
        return False

    def _loses(self, piece: bytes, carried: int) -> bool:
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
