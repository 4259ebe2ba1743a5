"""Which children run, on record: after a SIGKILL of the daemon its next start ends them, before it touches a
database.

An app that is just being spawned is not on record yet: for these moments it is known by the environment it is given.

A daemon that is killed then leaves a note with a hash of that environment. No stranger has the same one: our port and
the folder of one tenant are in it. An app that has changed its environment block meanwhile is not found, and no harm is
done to anybody else.

Processes that an earlier daemon started for this data folder, found without its records.

Records of running apps lie in the data folder (``records``). Where a daemon was killed and the folder was deleted, only
the environment of the processes still tells where they belong.
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
from flyatc.process import group, members, proc, termination
from flyatc.process.app_process import AppProcess
from flyatc.process.launch_plan import FOLDER_VARIABLE as VARIABLE
from flyatc.process.members import Target, describe

T = TypeVar("T")

FOLDER = Path(".flyatc/children")
GRACE = 5.0  # s; for what an earlier daemon left behind
LARGEST = 64 << 10  # octets of a record

Number = Annotated[int, msgspec.Meta(gt=1)]  # kill(2): 0, 1 and what is below are not one process


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pid: Number  # leads its group and its session
    started: Annotated[int, msgspec.Meta(ge=0)]  # clock ticks since boot
    boot: str
    tenant: str  # its address, for people
    mark: str = ""  # of an app: see ``members``
    root: int = 0
    root_started: int = 0
    cgroup: str = ""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run of which no pid is known yet."""

    boot: str
    tenant: str
    mark: str
    cgroup: str


class Records:
    """The children of this daemon, one file each in the ``data`` folder of the server.

    A file appears at once or not at all, by a rename. It is not synced: what it tells is of interest only as long as
    the machine runs."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER
        self._boot = proc.boot()
        self._live: set[int] = set()

    @contextmanager
    def launching(self, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
        """While its app is spawned, until it is added. Raises OSError."""
        with noted(self._folder, tenant, environ, port):
            yield

    def add(self, tenant: str, leader: group.Group) -> None:
        """Raises OSError."""
        self._live.add(leader.leader)
        self._write(Record(pid=leader.leader, started=leader.started, boot=self._boot, tenant=tenant))

    def remove(self, leader: group.Group) -> None:
        """The group is gone."""
        self._live.discard(leader.leader)
        _remove(self._path(leader.leader, leader.started))

    @contextmanager
    def starting(self, tenant: str, mark: str, cgroup: str) -> Iterator[None]:
        """While an app is started, until its run is added. Raises OSError."""
        durable_files.make_folder(self._folder)
        path = self._folder / f"{mark}.start"
        path.write_bytes(msgspec.json.encode(Start(boot=self._boot, tenant=tenant, mark=mark, cgroup=cgroup)))
        try:
            yield
        finally:
            _remove(path)

    def add_run(self, tenant: str, run: AppProcess) -> None:
        """Raises OSError."""
        assert run.target is not None
        root, root_started = run.target.root, run.target.started
        self._write(Record(run.pid, run.started, self._boot, tenant, run.mark, root, root_started, run.made))

    def remove_run(self, run: AppProcess) -> None:
        """Nobody of it is left."""
        _remove(self._path(run.pid, run.started))

    def _write(self, record: Record) -> None:
        durable_files.make_folder(self._folder)
        path = self._path(record.pid, record.started)
        beside = path.with_suffix(".tmp")
        beside.write_bytes(msgspec.json.encode(record))
        beside.replace(path)

    def known(self) -> frozenset[int]:
        """The pids which asyncio waits for: nobody else may reap them."""
        return frozenset(self._live)

    def _path(self, pid: int, started: int) -> Path:
        return self._folder / f"{pid}-{started}.json"


async def end_leftovers(data: Path, log: Log) -> None:
    """Ends what an earlier daemon on this ``data`` folder left running, grandchildren of dead children too, and clears
    its records. Raises FlyatcError if something cannot be ended: then no database may be touched."""
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


def _remove(path: Path) -> None:
    with suppress(OSError):  # a record of what is gone does no harm
        path.unlink()


async def _end_leftover(path: Path, log: Log) -> str | None:
    """What could not be ended."""
    record = _read(path, Record, log)
    if record is not None and record.boot == proc.boot():
        leader = group.Group(record.pid, record.started)
        target = Target(record.root, record.root_started, record.mark, record.cgroup)
        stubborn = await (
            _end_run(record.tenant, target, leader, log) if record.mark else _end(record.tenant, leader, log)
        )
        if stubborn is not None:
            return stubborn
        members.remove(record.cgroup)
        _remove_base(record.cgroup)
    _remove(path)
    return None


async def _end_started(path: Path, log: Log) -> str | None:
    """What could not be ended of a run that was about to begin."""
    start = _read(path, Start, log)
    if start is not None and start.boot == proc.boot():
        stubborn = await _end_run(start.tenant, Target(0, 0, start.mark, start.cgroup), None, log)
        if stubborn is not None:
            return stubborn
        members.remove(start.cgroup)
        _remove_base(start.cgroup)
    _remove(path)
    return None


async def _end_run(tenant: str, target: Target, leader: group.Group | None, log: Log) -> str | None:
    """By descent, cgroup and mark; where its root is gone the session of the app besides."""

    def gone() -> bool:
        return not any(target.rooted() or target.find() for _ in range(2))

    pid = 0 if leader is None else leader.leader
    needed = await termination.end(target, leader=pid, led=lambda: False, gone=gone, grace=GRACE, hurry=lambda: False)
    if needed is termination.Needed.MORE:
        return f"{tenant} ({'; '.join(map(describe, target.find()))})"
    if needed is not termination.Needed.NOTHING:
        log.event("warning", "ended an app of an earlier run", tenant=tenant, pid=pid, needed=needed.value)
    return None if leader is None else await _end(tenant, leader, log)


def _remove_base(cgroup: str) -> None:
    """Of the daemon which made it, with the last of its runs."""
    if cgroup:
        with suppress(OSError):
            Path(cgroup).parent.rmdir()


async def _end_launched(path: Path, log: Log) -> str | None:
    """What could not be ended of those who were not on record yet."""
    note = _read(path, Note, log)
    if note is not None:
        for leader in find(note):
            stubborn = await _end(note.tenant, leader, log)
            if stubborn is not None:
                return stubborn
    _remove(path)
    return None


async def _end(tenant: str, leader: group.Group, log: Log) -> str | None:
    needed = await group.end(leader, GRACE, hurry=lambda: False)
    if needed is group.Needed.MORE:
        return f"{tenant} (process group {leader.leader})"
    if needed is not group.Needed.NOTHING:
        log.event("warning", "ended an app of an earlier run", tenant=tenant, pid=leader.leader, needed=needed.value)
    return None


def _read(path: Path, kind: type[T], log: Log) -> T | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(LARGEST), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.event("warning", "the record of an earlier child is damaged; removed", file=path.name, reason=str(error))
        return None


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    boot: str
    tenant: str  # its address, for people
    environ: str  # a hash


@contextlib.contextmanager
def noted(folder: Path, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
    """While the app is spawned and put on record. Raises OSError."""
    durable_files.make_folder(folder)
    variables = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    note = Note(boot=proc.boot(), tenant=tenant, environ=_hash(variables))
    path = folder / f"{port}.launch"
    path.write_bytes(msgspec.json.encode(note))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a note of what is on record does no harm
            path.unlink()


def find(note: Note) -> list[group.Group]:
    """The groups of those who lead a session and have this environment."""
    if note.boot != proc.boot():
        return []
    leaders = (process for process in proc.scan() if process.session == process.pid and not process.ended)
    return [group.Group(one.pid, one.started) for one in leaders if _environ(one.pid) == note.environ]


def _environ(pid: int) -> str | None:
    try:
        return _hash((proc.PROC / str(pid) / "environ").read_bytes().rstrip(b"\0").split(b"\0"))  # proc_pid_environ(5)
    except OSError:
        return None


def _hash(variables: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(sorted(variables))).hexdigest()


KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel
POLL = 0.02  # s
LARGEST_ENVIRONMENT = 4 << 20  # octets of an environment


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
    return [one.pid for one in proc.scan() if one.pid not in spared and not one.ended and _has(one.pid, entry)]


def _has(pid: int, entry: bytes) -> bool:
    try:
        with (proc.PROC / str(pid) / "environ").open("rb") as file:
            return entry in file.read(LARGEST_ENVIRONMENT).split(b"\0")
    except OSError:  # it has ended, or is another user's
        return False


def _ancestors() -> frozenset[int]:
    """We, and those who started us."""
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        process = proc.find(pid)
        pid = process.parent if process is not None else 0
    return frozenset(found)
