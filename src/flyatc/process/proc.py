"""Process table from /proc (proc(5), "/proc/pid/stat")."""

from collections.abc import Iterator
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
