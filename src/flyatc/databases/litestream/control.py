"""litestream's control socket: JSON over HTTP on a unix socket, one short connection a call, each bounded in time.

HTTP/1.0: the answer is not chunked, and ends with the connection. Paths and answers as litestream 0.5.17 has them.

``/sync`` is never called. litestream holds a read lock, which keeps others from restarting the WAL. It binds that lock
to the call in which it takes it, so that the lock is given up when the call has been answered. From then on pages are
lost: the replica cannot be restored, while every answer says "synced" (measured: 0.5.12 to 0.5.17).
"""

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

MARGIN = 1.0  # s; what litestream may take longer than it was told
DONE = "update_metrics"  # the last phase of a reading which went well
MOST_AT_ONCE = 64 << 20  # octets of a WAL, of which litestream makes one transaction; then it goes on at once
LARGEST = 16 << 20  # octets of an answer; /list has some 150 a database


class ControlFailed(Exception):
    """Nobody answers, or not in time, or nothing that makes sense: whether it was done is not known."""


class Refused(Exception):
    """litestream's own words; ``status`` as in HTTP."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Progress(msgspec.Struct, frozen=True):
    """The last reading of one database's WAL. ``started_at`` None: it was not read yet. ``wal_size``: octets read."""

    path: str
    active: bool = False
    phase: str = ""
    started_at: datetime | None = None
    txid: int = 0
    wal_size: int = 0
    error: str = ""

    @property
    def read_at(self) -> float | None:
        """Unix time: all that was committed before is in ``txid`` or an earlier transaction. None: nothing is known."""
        done = not self.active and self.phase == DONE and not self.error and self.wal_size < MOST_AT_ONCE / 2
        return self.started_at.timestamp() if self.started_at is not None and done else None


class _Registered(msgspec.Struct, frozen=True):
    status: str


class _Database(msgspec.Struct, frozen=True):
    path: str


class _List(msgspec.Struct, frozen=True):
    databases: list[_Database]


class _Status(msgspec.Struct, frozen=True):
    databases: list[Progress]


class _Error(msgspec.Struct, frozen=True):
    error: str


class Control:
    """Each call raises Refused and ControlFailed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def register(self, path: Path, url: str) -> bool:
        """False: it was registered before, *whatever the URL was then*, and that has not changed."""
        body = {"path": str(path), "replica_url": url}
        return _decode(await self._ask("POST", "/register", body), _Registered).status == "registered"

    async def unregister(self, path: Path, seconds: int) -> None:
        """Refused with 500: its last sync failed, and it is no longer registered all the same (0.5.17)."""
        await self._ask("POST", "/unregister", {"path": str(path), "timeout": seconds}, seconds)

    async def listed(self) -> frozenset[str]:
        """The paths which it has."""
        return frozenset(database.path for database in _decode(await self._ask("GET", "/list", None), _List).databases)

    async def progress(self) -> dict[str, Progress]:
        """Of all that it has, by path."""
        found = _decode(await self._ask("GET", "/debug/sync-status", None), _Status).databases
        return {one.path: one for one in found}

    async def _ask(self, method: str, path: str, body: object, seconds: float = 1.0) -> bytes:
        try:
            async with asyncio.timeout(seconds + MARGIN):
                status, answer = await self._exchange(method, path, b"" if body is None else msgspec.json.encode(body))
        except TimeoutError as error:
            raise ControlFailed(f"litestream does not answer {path} within {seconds + MARGIN:.0f} seconds") from error
        except (OSError, ValueError, IndexError, asyncio.LimitOverrunError, asyncio.IncompleteReadError) as error:
            raise ControlFailed(f"litestream cannot be reached: {error}") from error
        if status != 200:
            raise Refused(status, _words(answer))
        return answer

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # however deep it lies
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
        try:
            head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            rest = bytearray()
            while piece := await reader.read(1 << 16):
                rest += piece
                if len(rest) > LARGEST:
                    raise ValueError("its answer has no end")
            return int(answer.split(b" ", 2)[1]), bytes(rest)
        finally:
            writer.transport.abort()  # it need not take what is left of the question: nobody waits for that


def _decode(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ControlFailed(f"litestream's answer is not understood: {error}") from error


def _words(answer: bytes) -> str:
    try:
        return msgspec.json.decode(answer, type=_Error).error
    except msgspec.MsgspecError:
        return answer.decode(errors="replace")[:300]
