"""Process table from /proc (proc(5), "/proc/pid/stat"); adoption and reaping of orphaned descendants."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from flyatc.process import members

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Process:
    pid: int
    state: str  # one letter: R, S, D, Z …
    parent: int
    group: int
    session: int
    started: int  # clock ticks since boot; with pid and boot id it identifies a process uniquely

    ticks: int = 0  # of CPU time used, including waited-for children

    @property
    def ended(self) -> bool:
        """A zombie: its files are closed, only its exit status is left."""
        return self.state in "ZX"


def find(pid: int) -> Process | None:
    """Return the process, or None if there is none."""
    found = members.stat(pid)
    if found is None:
        return None
    state, parent, group, session, started, ticks = found
    return Process(pid, state, parent, group, session, started, ticks)


def scan() -> Iterator[Process]:
    """Yield all visible processes. Costs some 20 µs each."""
    for pid in members.pids():
        if (process := find(pid)) is not None:
            yield process


def descendants(pid: int) -> list[Process]:
    """Return all descendants of a process, without zombies."""
    children: dict[int, list[Process]] = {}
    for process in scan():
        children.setdefault(process.parent, []).append(process)
    found, parents = list[Process](), [pid]
    while parents:
        for process in children.pop(parents.pop(), []):
            parents.append(process.pid)
            if not process.ended:
                found.append(process)
    return found


def boot() -> str:
    """Return the boot id, which differs from boot to boot; empty if unavailable."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
EVERY = 1.0  # s


def adopt_orphans() -> bool:
    """Make this process the parent of all its orphaned descendants, as PID 1 always is. Returns whether it worked."""
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


class Reaper:
    """Reaps zombies that no other code waits for. ``known`` returns the pids that are reaped elsewhere.

    A child may not be known yet just after its start. So only a zombie seen in two successive sweeps is reaped: known
    children are reaped within milliseconds."""

    def __init__(self, known: Callable[[], Collection[int]]) -> None:
        self._known = known
        self._seen: frozenset[int] = frozenset()

    async def run(self) -> None:
        """Sweep every second; never returns."""
        while True:
            await asyncio.sleep(EVERY)
            self.sweep()

    def sweep(self) -> list[int]:
        """Reap once; return the pids that were reaped."""
        zombies = _zombies() - set(self._known())
        ripe, self._seen = zombies & self._seen, frozenset(zombies)
        return [pid for pid in sorted(ripe) if _reap(pid)]


def _zombies() -> set[int]:
    """Return this process's children that have ended. One system call if there are none, which is nearly always."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return set()
    except ChildProcessError:  # no children at all
        return set()
    me = os.getpid()
    return {process.pid for process in scan() if process.parent == me and process.ended}


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # reaped elsewhere meanwhile
        return False
