"""Sends the body of a file's answer: the kernel copies it from the page cache to the socket (sendfile(2)).

Once the transport's own buffer is empty, the pieces are written straight into the socket, past the transport; when it
is full, the loop tells when there is room again. uvloop forbids to watch a transport's own descriptor, so a dup of it
is watched. Nothing but the socket's buffer holds bytes, whatever the visitor's speed.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable

from flyatc.delivery.conditional import Span
from flyatc.delivery.files.file_response import FileResponse
from flyatc.wire import server, splice
from flyatc.wire.errors import BadMessage

AT_ONCE = 65536  # bodies up to this are read, and go out in one write with their head
TURN = 2 << 20  # octets that one visitor is given before it is the others' turn; nginx gives as many

Ended = Callable[[str | None], None]


def send(
    request: server.Request,
    transport: asyncio.Transport | None,
    head: bytes,
    answer: FileResponse,
    *,
    timeout: float,
    ended: Ended,
) -> None:
    """Sends ``head`` (complete, with its empty line) and the answer's body, and closes the file in any case.

    ``transport``: the request's, None where the visitor has left. ``timeout``: seconds in which he has to take
    something (he is given up after twice as many at most), 0 for none. ``ended`` is called once, maybe before this
    returns: with None when all is written, and ``request.end`` is to follow; with the reason where it was cut, and the
    connection is gone."""
    if transport is None or transport.is_closing():
        answer.close()
        return ended("the client left")
    if answer.length > AT_ONCE:
        return Sending(request, transport, head, answer, timeout, ended).begin()
    try:
        body = answer.body()
    except (OSError, EOFError):
        request.receiver = None
        request.abort()
        return ended("the file could not be read to its end")
    request.send(head + body)
    return ended(None)


class Sending:
    """One body on its way. While it lasts it is the request's receiver."""

    __slots__ = (
        "_answer", "_ended", "_fd", "_full", "_loop", "_moved", "_pieces", "_queued", "_request", "_timeout", "_timer",
        "_transport", "_watching",
    )  # fmt: skip

    def __init__(
        self,
        request: server.Request,
        transport: asyncio.Transport,
        head: bytes,
        answer: FileResponse,
        timeout: float,
        ended: Ended,
    ) -> None:
        self._request, self._transport, self._answer = request, transport, answer
        request.opening = head
        self._timeout, self._ended = timeout, ended
        self._pieces: deque[bytes | Span] = deque((head, *answer.pieces))
        self._loop = asyncio.get_running_loop()
        self._fd = -1  # the visitor's socket, by a number of our own
        self._full = False  # the socket took less than it was given
        self._watching = False
        self._moved = self._loop.time()  # when something went into the socket, or out of it
        self._queued = -1  # octets in the socket, when last looked
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._request.receiver = self
        self._request.response_started = True
        try:
            self._fd = os.dup(self._transport.get_extra_info("socket").fileno())
        except OSError as error:
            return self._cut(f"the socket could not be had: {error.strerror}")
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)  # writable(True) comes when all of it is written
            return None
        return self._start()

    # --- the visitor (wire.server.Receiver) ---

    def writable(self, ready: bool) -> None:
        if ready and not self._watching:
            self._transport.set_write_buffer_limits(high=server.WRITE_HIGH)
            self._start()

    def gone(self) -> None:
        self._end("the client left")

    def body(self, data: bytes) -> None:
        """The answer stands already: what still comes is thrown away."""

    def body_end(self, trailers: list[bytes]) -> None:
        """As ``body``."""

    def body_failed(self, fault: BadMessage) -> None:
        self._cut(fault.reason)

    # --- the work ---

    def _start(self) -> None:
        """From here on nobody but us writes; until here the connection minds who is slow."""
        if self._timeout:
            self._timer = self._loop.call_later(self._timeout, self._look)
        self._turn()

    def _turn(self) -> None:
        """Writes until the socket is full or the turn is over. Called again by the loop when there is room."""
        left = TURN
        try:
            while self._pieces and left > 0:
                written = self._write(self._pieces[0], left)
                if not written:
                    return self._cut("the file has shrunk while it was sent")
                left -= written
                if self._full:
                    break  # to ask again would be told so by an error, which costs as much as a hundred kilobytes
        except BlockingIOError:
            pass
        except (ConnectionError, TimeoutError):
            return self._cut("the client left")
        except OSError as error:
            return self._cut(f"the file could not be sent to its end: {error.strerror}")
        if left < TURN:
            self._moved = self._loop.time()
        if not self._pieces:
            return self._end(None)
        if not self._watching:
            self._loop.add_writer(self._fd, self._turn)
            self._watching = True
        return None

    def _write(self, piece: bytes | Span, left: int) -> int:
        """Takes from the first piece what the socket takes, ``left`` octets at most. Gives how many."""
        if isinstance(piece, bytes):
            count = os.write(self._fd, piece)
            rest: bytes | Span = piece[count:]
            done = not rest
            self._full = not done
        else:
            assert self._answer.file is not None
            fd, wanted = self._answer.file.fd, piece.stop - piece.start
            count = os.sendfile(self._fd, fd, piece.start, min(wanted, left))
            rest = Span(piece.start + count, piece.stop)
            done = count == wanted
            self._full = count < min(wanted, left)
        self._request.sent += count
        if done:
            self._pieces.popleft()
        else:
            self._pieces[0] = rest
        return count

    def _look(self) -> None:
        """Ends a visitor who takes nothing. A full socket takes no more before a third of it is free, which may last:
        what counts is whether its queue gets shorter."""
        now = self._loop.time()
        left = self._moved + self._timeout - now
        if left <= 0:
            queued = splice.unacknowledged(self._fd)
            if queued == self._queued:
                return self._cut(f"the client took nothing for {self._timeout:g} s")
            self._queued, self._moved, left = queued, now, self._timeout
        self._timer = self._loop.call_later(left, self._look)
        return None

    # --- the end ---

    def _cut(self, reason: str) -> None:
        self._end(reason)
        self._request.abort()

    def _end(self, reason: str | None) -> None:
        self._request.receiver = None
        if self._watching:
            self._loop.remove_writer(self._fd)
        if self._fd >= 0:
            os.close(self._fd)
        if self._timer is not None:
            self._timer.cancel()
        self._answer.close()
        self._ended(reason)
