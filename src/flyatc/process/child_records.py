"""JSON records of the children that were launched.

After a SIGKILL of the daemon, its next start ends these children before it opens a database (``leftovers``).

- ``Record``: a running child. ``Start``: an app that is being started.
- ``LaunchNote``: a program that is being spawned, as a hash of its environment, which no other process has. If
  the program has changed its environment block meanwhile it is not found, but no other process is affected.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec

from flyatc.kit import durable_files
from flyatc.process import members, proc, termination
from flyatc.process.supervisor_client import AppProcess

FOLDER = Path(".flyatc/children")

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
        remove_record(self._path(leader.leader, leader.started))

    @contextmanager
    def starting(self, tenant: str, mark: str, cgroup: str) -> Iterator[None]:
        """Record an app while it is started, until ``add_run``. Raises OSError."""
        durable_files.make_folder(self._folder)
        path = self._folder / f"{mark}.start"
        path.write_bytes(msgspec.json.encode(Start(boot=self._boot, tenant=tenant, mark=mark, cgroup=cgroup)))
        try:
            yield
        finally:
            remove_record(path)

    def add_run(self, tenant: str, run: AppProcess) -> None:
        """Record a run. Raises OSError."""
        assert run.target is not None
        root, root_started = run.target.root, run.target.started
        self._write(Record(run.pid, run.started, self._boot, tenant, run.mark, root, root_started, run.made))

    def remove_run(self, run: AppProcess) -> None:
        """Remove the record; no process of the run is left."""
        remove_record(self._path(run.pid, run.started))

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


def remove_record(path: Path, cgroup: str = "") -> None:
    """Remove a record, the cgroup of its run, and the cgroup base of the earlier daemon if it is empty."""
    if cgroup:
        members.remove(cgroup)
        with suppress(OSError):
            Path(cgroup).parent.rmdir()
    with suppress(OSError):  # a stale record does no harm
        path.unlink()


class LaunchNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    boot: str
    tenant: str  # its address, for messages
    environ: str  # a hash


@contextlib.contextmanager
def launch_note(folder: Path, tenant: str, environ: Mapping[str, str], port: int) -> Iterator[None]:
    """Keep a note while the program is spawned and recorded. Raises OSError."""
    durable_files.make_folder(folder)
    variables = [os.fsencode(f"{name}={value}") for name, value in environ.items()]
    note = LaunchNote(boot=proc.boot(), tenant=tenant, environ=hash_environment(variables))
    path = folder / f"{port}.launch"
    path.write_bytes(msgspec.json.encode(note))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a stale note does no harm
            path.unlink()


def hash_environment(variables: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(sorted(variables))).hexdigest()
