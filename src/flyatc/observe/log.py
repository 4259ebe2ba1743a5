"""One line for each thing that happened: requests, the daemon's own events, the children's output.

JSON lines on standard output, or readable text, in colour on a terminal. Lines are gathered and handed to one writer
thread in batches, so that neither a slow disk nor a blocked pipe ever holds up the loop.
"""

import asyncio
import io
import os
import queue
import select
import threading
from datetime import UTC, datetime
from time import monotonic, sleep, time  # noqa: TID251  # see settle
from typing import Any, BinaryIO

import msgspec

from flyatc.observe.journal import Journal
from flyatc.observe.log_text import inert_json, readable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
POLL_SECONDS = 0.001
BATCH_SECONDS = 0.05
BATCH_OCTETS = 1 << 16
BACKLOG_OCTETS = 16 << 20  # beyond this, lines are counted instead of kept: memory is bounded
STALL_SECONDS = 5.0  # who has read nothing for so long is not waited for
STDOUT = 1
LOCKED = "database is locked"  # SQLite's words for SQLITE_BUSY, in each language's binding
MOST_LOCKED = 10_000  # tenants

_encoder = msgspec.json.Encoder(enc_hook=str)


def stamp(now: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Log:
    """``text``: readable lines instead of JSON, in colour where ``out`` is a terminal and https://no-color.org does not
    say otherwise. ``level``: the least level of own events that is written."""

    def __init__(self, out: BinaryIO | None = None, *, text: bool = False, level: str = "info") -> None:
        # not sys.stdout: it has a lock, which Python must have at its end and which a stuck writer would hold
        self._out = out if out is not None else io.FileIO(STDOUT, "wb", closefd=False)
        self._text, self._least = text, LEVELS[level]
        self._colour = self._out.isatty() and not os.environ.get("NO_COLOR")
        self._batch: list[bytes] = []
        self._octets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._handed = self._written = 0  # octets; only the loop changes the first, only the writer the second
        self._moved = monotonic()  # when the writer last came on
        self._dropped = 0
        self.journal = Journal()
        self.locked: set[str] = set()  # tenants whose app says so; whoever looks takes them out
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    # --- what may be told ---

    def event(self, level: str, message: str, /, **fields: Any) -> None:
        """One of the daemon's own events. ``tenant`` among the fields files it under that tenant."""
        if LEVELS[level] < self._least:
            return
        self._tell(fields.get("tenant"), {"time": stamp(time()), "level": level, "msg": message, **fields})

    def output(self, tenant: str, stream: str, text: str) -> None:
        """One line that a child wrote to ``stream`` (stdout, stderr)."""
        if LOCKED in text and len(self.locked) < MOST_LOCKED:
            self.locked.add(tenant)
        self._tell(tenant, {"time": stamp(time()), "level": "info", "msg": text, "tenant": tenant, "stream": stream})

    def request(self, tenant: str | None, line: bytes) -> None:
        """One finished request, already encoded (the edge does it: this is the hot path)."""
        self.journal.add(tenant, line)
        self._put(line)

    def _tell(self, tenant: str | None, record: dict[str, Any]) -> None:
        line = inert_json(_encode(record))
        self.journal.add(tenant, line)
        self._put(line)

    @property
    def crowded(self) -> bool:
        """Whether the reader of our output is behind and does read: a child's output should wait. Who does not read at
        all must not bring the apps to a stand."""
        return self._backlog > BACKLOG_OCTETS // 4 and monotonic() - self._moved < STALL_SECONDS

    # --- batches ---

    @property
    def _backlog(self) -> int:
        return self._handed - self._written + self._octets

    def _put(self, line: bytes) -> None:
        if self._backlog > BACKLOG_OCTETS:
            self._dropped += 1
            return
        if self._text:
            line = readable(line, colour=self._colour).encode(errors="replace")
        self._batch.append(line)
        self._octets += len(line) + 1
        if self._octets > BATCH_OCTETS:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self.flush)
            except RuntimeError:  # no loop: before the start, after the end
                self.flush()

    def flush(self) -> None:
        """Hands the batch to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._dropped and self._backlog < BACKLOG_OCTETS // 2:
            count, self._dropped = self._dropped, 0
            self.event("warning", "log lines dropped: whoever reads our output is too slow", lines=count)
            return self.flush()
        if self._batch:
            self._batch.append(b"")
            if self._handed == self._written:
                self._moved = monotonic()
            self._handed += self._octets
            self._queue.put(self._batch)
            self._batch, self._octets = [], 0

    def settle(self, patience: float = 0.2) -> None:
        """Blocks until all is written, so many seconds at most: before the machine is frozen, and what was told too."""
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
            except (OSError, ValueError):  # nobody reads any more: the daemon goes on
                self._written += len(rest)

    def _write_some(self, data: memoryview) -> int:
        count = self._out.write(data)
        if count is None:  # a terminal or a pipe which somebody else has made non-blocking
            select.select([], [self._out], [])
            return 0
        self._written += count
        self._moved = monotonic()
        return count

    def close(self, patience: float = 2.0) -> None:
        """Writes what is left; waits ``patience`` seconds at most."""
        self.flush()
        self._queue.put(None)
        self._writer.join(patience)


def _encode(record: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:  # a file name which is no UTF-8
        return _encoder.encode({name: str(value).encode(errors="replace").decode() for name, value in record.items()})
