"""Send the body of a file response with sendfile(2), from the page cache to the socket.

Once the transport's buffer is empty, the pieces are written directly to the socket, bypassing the transport. When the
socket is full, the event loop signals when it is writable again. uvloop forbids watching a transport's own descriptor,
so a dup of it is watched. Only the socket's buffer holds data, however slow the client is.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable

from flyatc.delivery.conditional import Span
from flyatc.delivery.files.file_response import FileResponse
from flyatc.wire import server, splice
from flyatc.wire.errors import BadMessage

AT_ONCE = 65536  # bodies up to this size are read, and sent in one write with their head
TURN = 2 << 20  # octets sent to one client before others get their turn, as in nginx

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
    """Send ``head`` (complete, with its empty line) and the body, and close the file in any case.

    ``transport``: the request's, None if the client has left. ``timeout``: seconds in which the client must receive
    something (the connection is aborted after at most twice as many), 0 for none. ``ended`` is called once, possibly
    before this returns: with None when all is written (then call ``request.end_response``), or with the reason if the
    connection was aborted."""
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
    """A body being sent. It is the request's receiver until the end."""

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
        self._fd = -1  # a dup of the client's socket
        self._full = False  # the socket accepted less than it was offered
        self._watching = False
        self._moved = self._loop.time()  # when data last went into the socket, or out of it
        self._queued = -1  # octets in the socket at the last check
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._request.receiver = self
        self._request.response_started = True
        try:
            self._fd = os.dup(self._transport.get_extra_info("socket").fileno())
        except OSError as error:
            return self._cut(f"the socket could not be duplicated: {error.strerror}")
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)  # writable(True) comes when all of it is written
            return None
        return self._start()

    # --- the client (wire.server.Receiver) ---

    def writable(self, ready: bool) -> None:
        if ready and not self._watching:
            self._transport.set_write_buffer_limits(high=server.WRITE_HIGH)
            self._start()

    def gone(self) -> None:
        self._end("the client left")

    def body(self, data: bytes) -> None:
        """Discard the rest of the request body: the response is already determined."""

    def body_end(self, trailers: list[bytes]) -> None:
        """See ``body``."""

    def body_failed(self, fault: BadMessage) -> None:
        self._cut(fault.reason)

    # --- the work ---

    def _start(self) -> None:
        """Start writing. From here on only this object writes; before, the connection enforces the timeout."""
        if self._timeout:
            self._timer = self._loop.call_later(self._timeout, self._look)
        self._turn()

    def _turn(self) -> None:
        """Write until the socket is full or the turn is over. The loop calls it again when the socket is writable."""
        left = TURN
        try:
            while self._pieces and left > 0:
                written = self._write(self._pieces[0], left)
                if not written:
                    return self._cut("the file has shrunk while it was sent")
                left -= written
                if self._full:
                    break  # another call would fail with EAGAIN, which costs as much as a hundred kilobytes
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
        """Write from the first piece as much as the socket accepts, at most ``left`` octets; return how many."""
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
        """Abort if the client receives nothing.

        A full socket accepts no more until a third of it is free, which may take long: so the shrinking of its queue
        counts as progress."""
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
