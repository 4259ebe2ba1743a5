"""JSON records of the children that were launched.

After a SIGKILL of the daemon, its next start ends these children before it opens a database.

- ``Record``: a running child. ``Start``: an app that is being started.
- ``LaunchNote``: a program that is being spawned, as a hash of its environment, which no other process has. If
  the program has changed its environment block meanwhile it is not found, but no other process is affected.
- Without records, because the data folder was deleted: processes whose environment names the folder.
"""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import members, proc, termination
from flyatc.process.launch_plan import FOLDER_VARIABLE as VARIABLE
from flyatc.process.members import Target, describe
from flyatc.process.supervisor_client import AppProcess

T = TypeVar("T")

FOLDER = Path(".flyatc/children")
GRACE = 5.0  # s; for what an earlier daemon left behind
LARGEST = 64 << 10  # bytes of a record

Number = Annotated[int, msgspec.Meta(gt=1)]  # kill(2): 0 and negative numbers mean groups or all processes; 1 is init


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pid: Number  # leads its group and its session
    started: Annotated[int, msgspec.Meta(ge=0)]  # clock ticks since boot
    boot: str
    tenant: str  # its address, for messages
    mark: str = ""  # of an app: see ``members``
    root: int = 0
    root_started: int = 0
    cgroup: str = ""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run whose pid is not known yet."""

    boot: str
    tenant: str
    mark: str
    cgroup: str


class Records:
    """The children of this daemon, one file each in the ``data`` folder of the server.

    Files are written atomically, by a rename. They are not synced, since they matter only until the next boot."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER
        self._boot = proc.boot()
        self._live: set[int] = set()

    @contextmanager
    def launching(self, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
        """Keep a LaunchNote of a program while it is spawned, until ``add``. Raises OSError."""
        with launch_note(self._folder, tenant, environ, port):
            yield

    def add(self, tenant: str, leader: termination.Group) -> None:
        """Record a group. Raises OSError."""
        self._live.add(leader.leader)
        self._write(Record(pid=leader.leader, started=leader.started, boot=self._boot, tenant=tenant))

    def remove(self, leader: termination.Group) -> None:
        """Remove the record; the group is gone."""
        self._live.discard(leader.leader)
        _remove(self._path(leader.leader, leader.started))

    @contextmanager
    def starting(self, tenant: str, mark: str, cgroup: str) -> Iterator[None]:
        """Record an app while it is started, until ``add_run``. Raises OSError."""
        durable_files.make_folder(self._folder)
        path = self._folder / f"{mark}.start"
        path.write_bytes(msgspec.json.encode(Start(boot=self._boot, tenant=tenant, mark=mark, cgroup=cgroup)))
        try:
            yield
        finally:
            _remove(path)

    def add_run(self, tenant: str, run: AppProcess) -> None:
        """Record a run. Raises OSError."""
        assert run.target is not None
        root, root_started = run.target.root, run.target.started
        self._write(Record(run.pid, run.started, self._boot, tenant, run.mark, root, root_started, run.made))

    def remove_run(self, run: AppProcess) -> None:
        """Remove the record; no process of the run is left."""
        _remove(self._path(run.pid, run.started))

    def _write(self, record: Record) -> None:
        durable_files.make_folder(self._folder)
        path = self._path(record.pid, record.started)
        beside = path.with_suffix(".tmp")
        beside.write_bytes(msgspec.json.encode(record))
        beside.replace(path)

    def known(self) -> frozenset[int]:
        """Return the pids that are waited for elsewhere: the reaper must not reap them."""
        return frozenset(self._live)

    def _path(self, pid: int, started: int) -> Path:
        return self._folder / f"{pid}-{started}.json"


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
        _remove(beside)
    return sorted(folder.glob("*.json"))


def _remove(path: Path, cgroup: str = "") -> None:
    """Remove a record, the cgroup of its run, and the cgroup base of the earlier daemon if it is empty."""
    if cgroup:
        members.remove(cgroup)
        with suppress(OSError):
            Path(cgroup).parent.rmdir()
    with suppress(OSError):  # a stale record does no harm
        path.unlink()


async def _end_leftover(path: Path, log: Log) -> str | None:
    """End a recorded child. Returns a description if it cannot be ended."""
    record, left, cgroup = _read(path, Record, log), None, ""
    if record is not None and record.boot == proc.boot():
        leader, cgroup = termination.Group(record.pid, record.started), record.cgroup
        target = Target(record.root, record.root_started, record.mark, cgroup)
        left = await (_end_run(record.tenant, target, leader, log) if record.mark else _end(record.tenant, leader, log))
    if left is None:
        _remove(path, cgroup)
    return left


async def _end_started(path: Path, log: Log) -> str | None:
    """End a run that was being started. Returns a description if it cannot be ended."""
    start, left, cgroup = _read(path, Start, log), None, ""
    if start is not None and start.boot == proc.boot():
        cgroup = start.cgroup
        left = await _end_run(start.tenant, Target(0, 0, start.mark, cgroup), None, log)
    if left is None:
        _remove(path, cgroup)
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
    _remove(path)
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


class LaunchNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    boot: str
    tenant: str  # its address, for messages
    environ: str  # a hash


@contextlib.contextmanager
def launch_note(folder: Path, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
    """Keep a note while the program is spawned and recorded. Raises OSError."""
    durable_files.make_folder(folder)
    variables = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    note = LaunchNote(boot=proc.boot(), tenant=tenant, environ=_hash(variables))
    path = folder / f"{port}.launch"
    path.write_bytes(msgspec.json.encode(note))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a stale note does no harm
            path.unlink()


def find_launched(note: LaunchNote) -> list[termination.Group]:
    """Return the groups of the session leaders that have this environment."""
    if note.boot != proc.boot():
        return []
    leaders = (process for process in proc.scan() if process.session == process.pid and not process.ended)
    return [termination.Group(one.pid, one.started) for one in leaders if _environ(one.pid) == note.environ]


def _environ(pid: int) -> str | None:
    try:
        return _hash((proc.PROC / str(pid) / "environ").read_bytes().rstrip(b"\0").split(b"\0"))  # proc_pid_environ(5)
    except OSError:
        return None


def _hash(variables: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(sorted(variables))).hexdigest()


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
