"""The log of a daemon, read while it grows.

Lines are written in batches: what has just happened may come BATCH_SECONDS later. So a test that looks once waits for
what may be under way; one that polls (``eventually``) does not.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flyatc.observe.log import BATCH_SECONDS
from slowness import SLOWNESS

_this_thread = threading.local()

Lines = list[dict[str, Any]]


@contextlib.contextmanager
def polling() -> Iterator[None]:
    """Within it, looks at a log do not wait: they are repeated anyway."""
    before, _this_thread.polls = getattr(_this_thread, "polls", False), True
    try:
        yield
    finally:
        _this_thread.polls = before


def when_written(look: Callable[[], Lines]) -> Lines:
    """Return what ``look`` finds once the present batch is written; if it finds nothing, look on for a moment."""
    if getattr(_this_thread, "polls", False):
        return look()
    time.sleep(1.5 * BATCH_SECONDS)  # noqa: TID251 - see above
    latest = time.monotonic() + 3 * BATCH_SECONDS * SLOWNESS
    while not (found := look()) and time.monotonic() < latest:
        time.sleep(0.02)  # noqa: TID251 - polling for a fact
    return found


class LogFile:
    """The lines of a log that grows, each parsed once: who waits for one looks a hundred times a second."""

    def __init__(self, path: Path) -> None:
        self._path, self._reading = path, threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._file, self._end = 0, 0  # its inode, and where the next line begins
        self._lines: Lines = []

    def lines(self) -> Lines:
        """All so far; what is no JSON comes as {"text": …}."""
        with self._reading:
            try:
                return self._read()
            except FileNotFoundError:
                self._forget()
                return []

    def _read(self) -> Lines:
        with self._path.open("rb") as log:
            status = os.fstat(log.fileno())
            if status.st_ino != self._file or status.st_size < self._end:  # another, or written anew
                self._forget()
                self._file = status.st_ino
            log.seek(self._end)
            complete, end, rest = log.read().rpartition(b"\n")
        self._end += len(complete) + len(end)
        self._lines += map(_parsed, filter(None, complete.split(b"\n")))
        return [*self._lines, _parsed(rest)] if rest else [*self._lines]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"text": line.decode(errors="replace")}
    return found


def matching(lines: Lines, message: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines whose ``msg`` begins so, with these fields."""
    return [
        line
        for line in lines
        if str(line.get("msg", "")).startswith(message) and all(line.get(k) == v for k, v in fields.items())
    ]
