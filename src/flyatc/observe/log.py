"""One line for each thing that happened: requests, the daemon's own events, the children's output.

JSON lines on standard output, or readable text in colour on a terminal. Lines are gathered and handed to one writer
thread in batches, so that neither a slow disk nor a blocked pipe ever holds up the loop.
"""

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import time
from typing import Any, BinaryIO

import msgspec

from flyatc.observe.journal import Journal

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
BATCH_SECONDS = 0.05
BATCH_OCTETS = 1 << 16
BACKLOG_OCTETS = 16 << 20  # beyond this, lines are counted instead of kept: memory is bounded

_encoder = msgspec.json.Encoder()
_COLOUR = {"debug": "2", "info": "36", "warning": "33", "error": "31"}


def stamp(now: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Log:
    """``text``: readable lines instead of JSON. ``level``: the least level of own events that is written."""

    def __init__(self, out: BinaryIO | None = None, *, text: bool = False, level: str = "info") -> None:
        self._out = out if out is not None else sys.stdout.buffer
        self._text, self._least = text, LEVELS[level]
        self._batch: list[bytes] = []
        self._octets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._waiting = 0  # octets handed to the writer and not yet written
        self._dropped = 0
        self.journal = Journal()
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    # --- what may be told ---

    def event(self, level: str, message: str, /, **fields: Any) -> None:
        """One of the daemon's own events. ``tenant`` among the fields files it under that tenant."""
        if LEVELS[level] < self._least:
            return
        now = time()
        record = {"time": stamp(now), "level": level, "msg": message, **fields}
        line = _encoder.encode(record)
        self.journal.add(fields.get("tenant"), line)
        self._put(_readable(now, level, message, fields) if self._text else line)

    def output(self, tenant: str, stream: str, text: str) -> None:
        """One line that a child wrote to ``stream`` (stdout, stderr)."""
        now = time()
        line = _encoder.encode({"time": stamp(now), "level": "info", "msg": text, "tenant": tenant, "stream": stream})
        self.journal.add(tenant, line)
        self._put(_spoken(now, tenant, text) if self._text else line)

    def request(self, tenant: str | None, line: bytes, readable: Callable[[], bytes]) -> None:
        """One finished request, already encoded (the edge does it: this is the hot path)."""
        self.journal.add(tenant, line)
        self._put(readable() if self._text else line)

    @property
    def crowded(self) -> bool:
        """Whether the reader of our output is behind: a child's output should wait."""
        return self._waiting + self._octets > BACKLOG_OCTETS // 4

    # --- batches ---

    def _put(self, line: bytes) -> None:
        if self._waiting + self._octets > BACKLOG_OCTETS:
            self._dropped += 1
            return
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
        if self._dropped and self._waiting < BACKLOG_OCTETS // 2:
            count, self._dropped = self._dropped, 0
            self.event("warning", "log lines dropped: whoever reads our output is too slow", lines=count)
            return self.flush()
        if self._batch:
            self._batch.append(b"")
            self._waiting += self._octets
            self._queue.put(self._batch)
            self._batch, self._octets = [], 0

    def _write(self) -> None:
        while (batch := self._queue.get()) is not None:
            data = b"\n".join(batch)
            try:
                self._out.write(data)
                self._out.flush()
            except (OSError, ValueError):  # nobody reads any more: the daemon goes on
                pass
            self._waiting -= len(data)

    def close(self, patience: float = 2.0) -> None:
        """Writes what is left; waits ``patience`` seconds at most."""
        self.flush()
        self._queue.put(None)
        self._writer.join(patience)


def _clock(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _readable(now: float, level: str, message: str, fields: dict[str, Any]) -> bytes:
    tenant = fields.get("tenant")
    who = f"\x1b[1m{tenant}\x1b[0m " if tenant else ""
    rest = " ".join(f"\x1b[2m{k}=\x1b[0m{_plain(v)}" for k, v in fields.items() if k != "tenant" and v is not None)
    return f"\x1b[2m{_clock(now)}\x1b[0m \x1b[{_COLOUR[level]}m{level:<7}\x1b[0m {who}{message} {rest}".rstrip().encode(
        errors="replace"
    )


def _spoken(now: float, tenant: str, text: str) -> bytes:
    return f"\x1b[2m{_clock(now)}\x1b[0m \x1b[35m{'app':<7}\x1b[0m \x1b[1m{tenant}\x1b[0m \x1b[2m|\x1b[0m {_plain(text)}".encode(
        errors="replace"
    )


def _plain(value: Any) -> str:
    """A value which cannot move the cursor or change the colour of the operator's terminal."""
    text = value if isinstance(value, str) else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
