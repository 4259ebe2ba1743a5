"""The log: one line for each request, daemon event and line of app output.

JSON lines on standard output, or readable text, in colour on a terminal. Lines are passed to a writer thread in
batches, so that neither a slow disk nor a blocked pipe blocks the loop.
"""

import asyncio
import io
import os
import queue
import select
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic, sleep, time, time_ns  # noqa: TID251  # see settle
from typing import Any, BinaryIO, Protocol

import msgspec

from flyatc.observe.log_text import inert_json, readable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
POLL_SECONDS = 0.001
BATCH_SECONDS = 0.05
BATCH_BYTES = 1 << 17
BACKLOG_BYTES = 16 << 20  # beyond this, lines are dropped and counted: memory is bounded
STALL_SECONDS = 5.0  # a reader that has read nothing for so long is not waited for
STDOUT = 1
LOCKED = "database is locked"  # SQLite's message for SQLITE_BUSY, in every language binding
MOST_LOCKED = 10_000  # tenants

_encoder = msgspec.json.Encoder(enc_hook=str)


def stamp(now: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class EventLog(Protocol):
    """Receiver of log events, as Log is one. Levels: see LEVELS."""

    def event(self, level: str, message: str, /, **fields: Any) -> None: ...


class Log:
    """The log writer. ``text``: readable lines instead of JSON, in colour if ``out`` is a terminal and $NO_COLOR is not
    set (https://no-color.org). ``level``: the lowest level of daemon events that is written."""

    def __init__(self, out: BinaryIO | None = None, *, text: bool = False, level: str = "info") -> None:
        # not sys.stdout: Python takes its lock at exit, and a blocked writer would hold it
        self._out = out if out is not None else io.FileIO(STDOUT, "wb", closefd=False)
        self._text, self._least = text, LEVELS[level]
        self._colour = self._out.isatty() and not os.environ.get("NO_COLOR")
        self._batch: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._handed = self._written = 0  # bytes; the first is changed by the loop only, the second by the writer only
        self._moved = monotonic()  # when the writer last made progress
        self._dropped = 0
        self.journal = Journal()
        self.locked: set[str] = set()  # tenants whose app logged LOCKED; the reader removes them
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    # --- entries ---

    def event(self, level: str, message: str, /, **fields: Any) -> None:
        """Log a daemon event. A field ``tenant`` files it under that tenant."""
        if LEVELS[level] < self._least:
            return
        self._add(fields.get("tenant"), {"time": stamp(time()), "level": level, "msg": message, **fields})

    def output(self, tenant: str, stream: str, text: str) -> None:
        """Log a line that an app wrote to ``stream`` (stdout, stderr)."""
        if LOCKED in text and len(self.locked) < MOST_LOCKED:
            self.locked.add(tenant)
        self._add(tenant, {"time": stamp(time()), "level": "info", "msg": text, "tenant": tenant, "stream": stream})

    def request(self, tenant: str | None, line: bytes) -> None:
        """Log a finished request, already encoded by the edge (hot path)."""
        self.journal.add(tenant, line)
        if self._timer is None or self._text or self._size > BATCH_BYTES:
            self._put(line)
        elif self._handed - self._written + self._size > BACKLOG_BYTES:
            self._dropped += 1
        else:
            self._batch.append(line)
            self._size += len(line) + 1

    def _add(self, tenant: str | None, record: dict[str, Any]) -> None:
        line = inert_json(_encode(record))
        self.journal.add(tenant, line)
        self._put(line)

    @property
    def crowded(self) -> bool:
        """True if the reader of our output is slow but still reads: app output should wait. A reader that does not read
        at all must not block the apps."""
        return self._backlog > BACKLOG_BYTES // 4 and monotonic() - self._moved < STALL_SECONDS

    # --- batches ---

    @property
    def _backlog(self) -> int:
        return self._handed - self._written + self._size

    def _put(self, line: bytes) -> None:
        if self._handed - self._written + self._size > BACKLOG_BYTES:
            self._dropped += 1
            return
        if self._text:
            line = readable(line, colour=self._colour).encode(errors="replace")
        self._batch.append(line)
        self._size += len(line) + 1
        if self._size > BATCH_BYTES:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self.flush)
            except RuntimeError:  # no loop: before start or after shutdown
                self.flush()

    def flush(self) -> None:
        """Pass the batch to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._dropped and self._backlog < BACKLOG_BYTES // 2:
            count, self._dropped = self._dropped, 0
            self.event("warning", "log lines dropped: the reader of our output is too slow", lines=count)
            return self.flush()
        if self._batch:
            self._batch.append(b"")
            if self._handed == self._written:
                self._moved = monotonic()
            self._handed += self._size
            self._queue.put(self._batch)
            self._batch, self._size = [], 0

    def settle(self, patience: float = 0.2) -> None:
        """Block until all is written, at most ``patience`` seconds. For use before the machine is suspended."""
        self.flush()
        until = monotonic() + patience
        while self._handed != self._written and monotonic() < until:
            sleep(POLL_SECONDS)

    def _write(self) -> None:
        while (batch := self._queue.get()) is not None:
            rest = memoryview(b"\n".join(batch))
            try:
                while rest:
                    rest = rest[self._write_some(rest) :]
                self._out.flush()
            except (OSError, ValueError):  # the reader is gone: the daemon continues
                self._written += len(rest)

    def _write_some(self, data: memoryview) -> int:
        count = self._out.write(data)
        if count is None:  # a terminal or pipe that another process made non-blocking
            select.select([], [self._out], [])
            return 0
        self._written += count
        self._moved = monotonic()
        return count

    def close(self, patience: float = 2.0) -> None:
        """Write the rest and stop the writer; wait at most ``patience`` seconds."""
        self.flush()
        self._queue.put(None)
        self._writer.join(patience)


def _encode(record: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:  # such as a file name that is not UTF-8
        return _encoder.encode({name: str(value).encode(errors="replace").decode() for name, value in record.items()})


Entry = tuple[int, str | None, bytes]  # number, tenant or None, JSON object without newline
_PARTS = 16  # of the journal; the oldest is dropped as a whole


class Journal:
    """The latest log lines in memory, for ``flyatc logs``, bounded in bytes.

    Each request adds one, and few are ever read: so full parts are kept as one block of lines, and split when read."""

    def __init__(self, bound: int = 2 << 20) -> None:
        self._parts: deque[tuple[int, list[str | None], bytes]] = deque()  # number of the first, tenants, lines
        self._tenants: list[str | None] = []  # of the newest lines, not in a part yet
        self._lines: list[bytes] = []
        self._size = self._newest = 0  # octets of the parts, and of the newest lines
        self._bound, self._part = bound, bound // _PARTS
        self._more = asyncio.Event()
        self._readers = 0  # that wait
        self.last = 0  # the number of the newest entry
        self.name = f"{time_ns():x}"  # of this journal, since the numbers of another one are others

    def add(self, tenant: str | None, line: bytes) -> None:
        self.last += 1
        self._tenants.append(tenant)
        self._lines.append(line)
        self._newest += len(line)
        if self._newest > self._part:
            self._close_part()
        if self._readers:
            self._more.set()

    def _close_part(self) -> None:
        self._parts.append((self.last - len(self._lines) + 1, self._tenants, b"\n".join(self._lines)))
        self._size += self._newest
        self._tenants, self._lines, self._newest = [], [], 0
        while self._size > self._bound:
            _, tenants, lines = self._parts.popleft()
            self._size -= len(lines) - len(tenants) + 1

    def since(self, number: int, tenant: str | None = None) -> list[Entry]:
        """Return the entries after ``number``, oldest first; of ``tenant`` and of addresses below ``tenant/``."""
        found: list[Entry] = []
        for first, tenants, lines in self._blocks(number):
            for at in range(max(0, number + 1 - first), len(tenants)):
                of = tenants[at]
                if tenant is None or of == tenant or (of or "").startswith(f"{tenant}/"):
                    found.append((first + at, of, lines[at]))
        return found

    def _blocks(self, number: int) -> Iterator[tuple[int, list[str | None], list[bytes]]]:
        """Yield the blocks that have entries after ``number``: the number of the first, tenants, lines."""
        for first, tenants, lines in self._parts:
            if first + len(tenants) > number + 1:
                yield first, tenants, lines.split(b"\n")
        yield self.last - len(self._lines) + 1, self._tenants, self._lines

    async def more(self) -> None:
        """Wait for the next entry."""
        self._more.clear()
        self._readers += 1
        try:
            await self._more.wait()
        finally:
            self._readers -= 1
