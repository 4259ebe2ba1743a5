"""Processes that an earlier daemon started for this data folder, found without its records.

Records of running apps lie in the data folder (``records``). Where a daemon was killed and the folder was deleted, only
the environment of the processes still tells where they belong."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import table
from flyatc.process.command import FOLDER_VARIABLE as VARIABLE
from flyatc.process.records import FOLDER, GRACE

KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel
POLL = 0.02  # s
LARGEST = 4 << 20  # octets of an environment


def environment(mark: str) -> dict[str, str]:
    """``mark``: names the data folder; empty: it cannot be told."""
    return {VARIABLE: mark} if mark else {}


async def end_unrecorded(data: Path, environ: Mapping[str, str], log: Log) -> None:
    """Where there are no records: ends every process whose environment names the folder as ours does. Raises
    FlyatcError if one cannot be ended: then no database may be touched."""
    mark = environ.get(VARIABLE)
    if mark is None or (data / FOLDER).exists():
        return
    entry = f"{VARIABLE}={mark}".encode()
    spared = await asyncio.to_thread(_ancestors)
    clock = asyncio.get_running_loop().time
    begun, told = clock(), set[int]()
    while left := await asyncio.to_thread(_find, entry, spared):
        waited = clock() - begun
        if waited > GRACE + KILL_PATIENCE:
            raise FlyatcError(
                f"apps of an earlier run cannot be ended: {', '.join(map(str, left))}. End them (as root, or restart "
                "the machine), then start again: their databases may still be written"
            )
        for pid in left:
            if waited > GRACE or pid not in told:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if waited > GRACE else signal.SIGTERM)
            if pid not in told:
                told.add(pid)
                log.event("warning", "ended an app of an earlier run whose data folder was deleted", pid=pid)
        await asyncio.sleep(POLL)


def _find(entry: bytes, spared: frozenset[int]) -> list[int]:
    return [one.pid for one in table.scan() if one.pid not in spared and not one.ended and _has(one.pid, entry)]


def _has(pid: int, entry: bytes) -> bool:
    try:
        with (table.PROC / str(pid) / "environ").open("rb") as file:
            return entry in file.read(LARGEST).split(b"\0")
    except OSError:  # it has ended, or is another user's
        return False


def _ancestors() -> frozenset[int]:
    """We, and those who started us."""
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        process = table.find(pid)
        pid = process.parent if process is not None else 0
    return frozenset(found)
