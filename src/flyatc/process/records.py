"""Which children run, on record: after a SIGKILL of the daemon its next start ends them, before it touches a
database."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from flyatc.kit import durable
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import cgroups, ending, group, launches, table
from flyatc.process.app_process import AppProcess
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
        self._boot = table.boot()
        self._live: set[int] = set()

    @contextmanager
    def launching(self, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
        """While its app is spawned, until it is added. Raises OSError."""
        with launches.noted(self._folder, tenant, environ, port):
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
        durable.make_folder(self._folder)
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
        durable.make_folder(self._folder)
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
    if record is not None and record.boot == table.boot():
        leader = group.Group(record.pid, record.started)
        target = Target(record.root, record.root_started, record.mark, record.cgroup)
        stubborn = await (
            _end_run(record.tenant, target, leader, log) if record.mark else _end(record.tenant, leader, log)
        )
        if stubborn is not None:
            return stubborn
        cgroups.remove(record.cgroup)
        _remove_base(record.cgroup)
    _remove(path)
    return None


async def _end_started(path: Path, log: Log) -> str | None:
    """What could not be ended of a run that was about to begin."""
    start = _read(path, Start, log)
    if start is not None and start.boot == table.boot():
        stubborn = await _end_run(start.tenant, Target(0, 0, start.mark, start.cgroup), None, log)
        if stubborn is not None:
            return stubborn
        cgroups.remove(start.cgroup)
        _remove_base(start.cgroup)
    _remove(path)
    return None


async def _end_run(tenant: str, target: Target, leader: group.Group | None, log: Log) -> str | None:
    """By descent, cgroup and mark; where its root is gone the session of the app besides."""

    def gone() -> bool:
        return not any(target.rooted() or target.find() for _ in range(2))

    pid = 0 if leader is None else leader.leader
    needed = await ending.end(target, leader=pid, led=lambda: False, gone=gone, grace=GRACE, hurry=lambda: False)
    if needed is ending.Needed.MORE:
        return f"{tenant} ({'; '.join(map(describe, target.find()))})"
    if needed is not ending.Needed.NOTHING:
        log.event("warning", "ended an app of an earlier run", tenant=tenant, pid=pid, needed=needed.value)
    return None if leader is None else await _end(tenant, leader, log)


def _remove_base(cgroup: str) -> None:
    """Of the daemon which made it, with the last of its runs."""
    if cgroup:
        with suppress(OSError):
            Path(cgroup).parent.rmdir()


async def _end_launched(path: Path, log: Log) -> str | None:
    """What could not be ended of those who were not on record yet."""
    note = _read(path, launches.Note, log)
    if note is not None:
        for leader in launches.find(note):
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
