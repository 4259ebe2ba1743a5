"""Copy a long body from one socket to another in the kernel (splice(2), Linux).

Both transports stay open; meanwhile nothing else may read the source or write to the target. uvloop forbids watching
a transport's own descriptor, so duplicates are watched.
"""

import asyncio
import errno
import fcntl
import os
import sys
import termios
from collections.abc import Callable

from flyatc.wire import descriptors

WORTH = 1 << 18  # octets from which it pays
PIPE = 1 << 20  # octets between the sockets at most
SMALL_PIPE = 1 << 16  # the same, once the large pipes hold half of what all may: the kernel's default, pipe(7)
TURN = 1 << 21  # octets that one body may move in one turn of the loop
_FLAGS = (os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK) if hasattr(os, "splice") else 0
POSSIBLE = hasattr(os, "splice")  # not on macOS

SOURCE, TARGET, STALLED = "source", "target", "stalled"

Ended = Callable[[str | None], None]


class Splice:
    """One copy from ``source`` to ``target``.

    ``ended`` is called once: with None when all is moved, else with the reason. ``moved`` is called with the octets
    that the target accepted. ``patience``: seconds in which it must accept some; 0: no limit. ``fault``: the side that
    failed (SOURCE, TARGET, STALLED); ``progress``: the loop's time of the last accepted octets."""

    __slots__ = (
        "_count", "_ended", "_first", "_from", "_in_pipe", "_loop", "_moved", "_patience", "_pipe", "_queued",
        "_reading", "_size", "_timer", "_to", "_writing", "fault", "progress",
    )  # fmt: skip
    octets = 0  # of all pipes: clients that take nothing leave them full, in the kernel's memory

    def __init__(
        self,
        source: asyncio.Transport,
        target: asyncio.Transport,
        first: bytes,
        count: int,
        *,
        patience: float,
        most: int,
        moved: Callable[[int], None],
        ended: Ended,
    ) -> None:
        """``first``: sent before the body (the head); ``count``: octets to copy from the source; ``most``: octets that
        all pipes may have. Raises OSError."""
        self._first, self._count = first, count
        self._patience, self._moved, self._ended = patience, moved, ended
        self._loop = asyncio.get_running_loop()
        self._in_pipe = self._size = 0
        self.fault = SOURCE
        self._reading = self._writing = False
        self._from = self._to = -1
        self._pipe = (-1, -1)
        self._timer: asyncio.TimerHandle | None = None
        self.progress, self._queued = self._loop.time(), -1
        try:
            self._from = os.dup(source.get_extra_info("socket").fileno())
            self._to = os.dup(target.get_extra_info("socket").fileno())
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._pipe[1] >= descriptors.bounds().crowded:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._take_pipe(most)
        except OSError:
            self._close()
            raise
        source.pause_reading()

    def _take_pipe(self, most: int) -> None:
        """Choose the size of the pipe, so that all pipes have at most ``most`` octets. Raises OSError."""
        size = PIPE if Splice.octets + PIPE <= most // 2 else SMALL_PIPE
        if Splice.octets + size > most:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if size == PIPE:
            fcntl.fcntl(self._pipe[1], fcntl.F_SETPIPE_SZ, PIPE)
        self._size = size
        Splice.octets += size

    def begin(self) -> None:
        if self._patience:
            self._timer = self._loop.call_later(self._patience, self._look)
        self._turn()

    def stop(self) -> None:
        """Stop without calling ``ended``."""
        self._watch(reading=False, writing=False)
        self._close()

    @property
    def awaits_source(self) -> bool:
        """True if the copy waits for the source."""
        return self._reading

    # --- the work ---

    def _turn(self) -> None:
        left = TURN
        try:
            while left > 0:
                if self._first or self._in_pipe:
                    left -= self._push()
                elif self._count:
                    self._pull()
                else:
                    return self._end(None)
        except BlockingIOError:
            full = bool(self._first or self._in_pipe)
            return self._watch(reading=not full, writing=full)
        except EOFError:
            return self._end("the app closed the connection in the middle of its response")
        except OSError as error:
            return self._end(f"the connection broke: {error.strerror}")
        return self._watch(reading=False, writing=True)

    def _pull(self) -> None:
        """Move octets from the source into the pipe. Raises EOFError, OSError."""
        self.fault = SOURCE
        count = os.splice(self._from, self._pipe[1], min(self._count, self._size), flags=_FLAGS)
        if not count:
            raise EOFError
        self._count -= count
        self._in_pipe += count

    def _push(self) -> int:
        """Move octets from the pipe to the target. Raises OSError."""
        self.fault = TARGET
        if self._first:
            count = os.write(self._to, self._first)
            self._first = self._first[count:]
        else:
            count = os.splice(self._pipe[0], self._to, self._in_pipe, flags=_FLAGS)
            self._in_pipe -= count
        self.progress = self._loop.time()
        self._moved(count)
        return count

    def _watch(self, *, reading: bool, writing: bool) -> None:
        if reading is not self._reading:
            self._reading = reading
            self._loop.add_reader(self._from, self._turn) if reading else self._loop.remove_reader(self._from)
        if writing is not self._writing:
            self._writing = writing
            self._loop.add_writer(self._to, self._turn) if writing else self._loop.remove_writer(self._to)

    def _look(self) -> None:
        """End the copy if the target has accepted nothing for ``patience`` seconds."""
        now = self._loop.time()
        left = self.progress + self._patience - now
        if left <= 0 and self._writing:
            queued = unacknowledged(self._to)
            if queued == self._queued:
                self.fault = STALLED
                return self._end(f"the client took nothing for {self._patience:g} s")
            self._queued, self.progress = queued, now
        self._timer = self._loop.call_later(left if left > 0 else self._patience, self._look)
        return None

    def _end(self, reason: str | None) -> None:
        self.stop()
        self._ended(reason)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for descriptor in (self._from, self._to, *self._pipe):
            if descriptor >= 0:
                os.close(descriptor)
        self._from = self._to = -1
        self._pipe = (-1, -1)
        Splice.octets -= self._size
        self._size = 0


def unacknowledged(descriptor: int) -> int:
    """Return the octets that the socket's peer has not acknowledged (tcp(7): SIOCOUTQ, the same number as TIOCOUTQ).

    A full socket becomes writable only when a third of it is free. If this number falls, the peer is slow, not gone."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
