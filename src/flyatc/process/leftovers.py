"""End the processes that an earlier daemon left behind, before any database is opened.

They are found by their records (``child_records``); without records, because the data folder was deleted, by the
environment, which names the folder."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import proc, termination
from flyatc.process.child_records import FOLDER, LaunchNote, Record, Start, hash_environment, remove_record
from flyatc.process.launch_plan import FOLDER_VARIABLE as VARIABLE
from flyatc.process.members import Target, describe

T = TypeVar("T")

GRACE = 5.0  # s; for what an earlier daemon left behind
LARGEST = 64 << 10  # bytes of a record


async def end_leftovers(data: Path, log: Log) -> None:
    """End the processes that an earlier daemon on this ``data`` folder left running, with their descendants, and
    remove its records. Raises FlyatcError if one cannot be ended: then no database may be opened."""
    folder = data / FOLDER
    on_record = [_end_leftover(path, log) for path in _files(folder)]
    launched = [_end_launched(path, log) for path in sorted(folder.glob("*.launch"))]
    started = [_end_started(path, log) for path in sorted(folder.glob("*.start"))]
    ended = await asyncio.gather(*on_record, *launched, *started)
    if stubborn := [name for name in ended if name is not None]:
        raise FlyatcError(
            f"apps of an earlier run cannot be ended: {', '.join(stubborn)}. "
            "End them (as root, or restart the machine), then start again: their databases may still be written"
        )


def _files(folder: Path) -> list[Path]:
    for beside in folder.glob("*.tmp"):  # a daemon was killed while it wrote
        remove_record(beside)
    return sorted(folder.glob("*.json"))


async def _end_leftover(path: Path, log: Log) -> str | None:
    """End a recorded child. Returns a description if it cannot be ended."""
    record, left, cgroup = _read(path, Record, log), None, ""
    if record is not None and record.boot == proc.boot():
        leader, cgroup = termination.Group(record.pid, record.started), record.cgroup
        target = Target(record.root, record.root_started, record.mark, cgroup)
        left = await (_end_run(record.tenant, target, leader, log) if record.mark else _end(record.tenant, leader, log))
    if left is None:
        remove_record(path, cgroup)
    return left


async def _end_started(path: Path, log: Log) -> str | None:
    """End a run that was being started. Returns a description if it cannot be ended."""
    start, left, cgroup = _read(path, Start, log), None, ""
    if start is not None and start.boot == proc.boot():
        cgroup = start.cgroup
        left = await _end_run(start.tenant, Target(0, 0, start.mark, cgroup), None, log)
    if left is None:
        remove_record(path, cgroup)
    return left


async def _end_run(tenant: str, target: Target, leader: termination.Group | None, log: Log) -> str | None:
    """End a run, found by descent, cgroup and mark, then the rest of the leader's session if it is given."""

    def gone() -> bool:
        return not any(target.rooted() or target.find() for _ in range(2))

    pid = 0 if leader is None else leader.leader
    ended_by = await termination.end_run(target, leader=pid, leader_alive=bool, gone=gone, grace=GRACE, hurry=bool)
    if ended_by is termination.EndedBy.SURVIVED:
        return f"{tenant} ({'; '.join(map(describe, target.find()))})"
    if ended_by is not termination.EndedBy.NOTHING:
        log.event("warning", "ended an app of an earlier run", tenant=tenant, pid=pid, needed=ended_by.value)
    return None if leader is None else await _end(tenant, leader, log)


async def _end_launched(path: Path, log: Log) -> str | None:
    """End programs that were being spawned. Returns a description if one cannot be ended."""
    note = _read(path, LaunchNote, log)
    if note is not None:
        for leader in find_launched(note):
            stubborn = await _end(note.tenant, leader, log)
            if stubborn is not None:
                return stubborn
    remove_record(path)
    return None


async def _end(tenant: str, leader: termination.Group, log: Log) -> str | None:
    ended_by = await termination.end_group(leader, GRACE, hurry=bool)
    if ended_by is termination.EndedBy.SURVIVED:
        return f"{tenant} (process group {leader.leader})"
    if ended_by is not termination.EndedBy.NOTHING:
        log.event("warning", "ended an app of an earlier run", tenant=tenant, pid=leader.leader, needed=ended_by.value)
    return None


def _read(path: Path, kind: type[T], log: Log) -> T | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(LARGEST), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.event("warning", "the record of an earlier child is damaged; removed", file=path.name, reason=str(error))
        return None


def find_launched(note: LaunchNote) -> list[termination.Group]:
    """Return the groups of the session leaders that have this environment."""
    if note.boot != proc.boot():
        return []
    leaders = (process for process in proc.scan() if process.session == process.pid and not process.ended)
    return [termination.Group(one.pid, one.started) for one in leaders if _environ(one.pid) == note.environ]


def _environ(pid: int) -> str | None:
    try:
        block = (proc.PROC / str(pid) / "environ").read_bytes()  # proc_pid_environ(5)
    except OSError:
        return None
    return hash_environment(block.rstrip(b"\0").split(b"\0"))


KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel
POLL = 0.02  # s
LARGEST_ENVIRONMENT = 4 << 20  # bytes of an environment


def folder_mark_variable(mark: str) -> dict[str, str]:
    """Return the variable that marks the daemon's processes. ``mark``: identifies the data folder; empty: unknown."""
    return {VARIABLE: mark} if mark else {}


async def end_unrecorded(data: Path, environ: Mapping[str, str], log: Log) -> None:
    """If there are no records, end every process with the same folder mark in its environment. Raises FlyatcError if
    one cannot be ended: then no database may be opened."""
    mark = environ.get(VARIABLE)
    if mark is None or (data / FOLDER).exists():
        return
    entry = f"{VARIABLE}={mark}".encode()
    spared = await asyncio.to_thread(_ancestors)
    clock = asyncio.get_running_loop().time
    begun, signalled = clock(), set[int]()
    while left := await asyncio.to_thread(_find, entry, spared):
        waited = clock() - begun
        if waited > GRACE + KILL_PATIENCE:
            raise FlyatcError(
                f"apps of an earlier run cannot be ended: {', '.join(map(str, left))}. End them (as root, or restart "
                "the machine), then start again: their databases may still be written"
            )
        for pid in left:
            if waited > GRACE or pid not in signalled:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if waited > GRACE else signal.SIGTERM)
            if pid not in signalled:
                signalled.add(pid)
                log.event("warning", "ended an app of an earlier run whose data folder was deleted", pid=pid)
        await asyncio.sleep(POLL)


def _find(entry: bytes, spared: frozenset[int]) -> list[int]:
    return [one.pid for one in proc.scan() if one.pid not in spared and not one.ended and _has(one.pid, entry)]


def _has(pid: int, entry: bytes) -> bool:
    try:
        with (proc.PROC / str(pid) / "environ").open("rb") as file:
            return entry in file.read(LARGEST_ENVIRONMENT).split(b"\0")
    except OSError:  # it has ended, or is another user's
        return False


def _ancestors() -> frozenset[int]:
    """Return this process and its ancestors."""
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        process = proc.find(pid)
        pid = process.parent if process is not None else 0
    return frozenset(found)
