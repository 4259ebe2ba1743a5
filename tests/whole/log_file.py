"""The log of a daemon, read while it grows."""

import json
import os
import threading
from pathlib import Path
from typing import Any


class LogFile:
    """The lines of a log that grows, each parsed once: who waits for one looks a hundred times a second."""

    def __init__(self, path: Path) -> None:
        self._path, self._reading = path, threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._file, self._end = 0, 0  # its inode, and where the next line begins
        self._lines: list[dict[str, Any]] = []

    def lines(self) -> list[dict[str, Any]]:
        """All so far; what is no JSON comes as {"text": …}."""
        with self._reading:
            try:
                return self._read()
            except FileNotFoundError:
                self._forget()
                return []

    def _read(self) -> list[dict[str, Any]]:
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


def matching(lines: list[dict[str, Any]], message: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines whose ``msg`` begins so, with these fields."""
    return [
        line
        for line in lines
        if str(line.get("msg", "")).startswith(message) and all(line.get(k) == v for k, v in fields.items())
    ]
