"""The kernel's table of processes, as /proc shows it (proc(5), "/proc/pid/stat")."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Process:
    pid: int
    state: str  # one letter: R, S, D, Z …
    parent: int
    group: int
    session: int
    started: int  # clock ticks since boot; with the pid and the boot, it names a process for good

    ticks: int = 0  # of CPU time used, by its children that were waited for as well

    @property
    def ended(self) -> bool:
        """A zombie: its files are closed, only its exit status is left."""
        return self.state in "ZX"


def find(pid: int) -> Process | None:
    """None where there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name stands in brackets and may contain anything, brackets too: what follows the last one is ours.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]),
        ticks=sum(map(int, fields[11:15])),
    )


def scan() -> Iterator[Process]:
    """All processes that can be seen. Costs some 20 µs each."""
    with os.scandir(PROC) as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    for pid in pids:
        if (process := find(pid)) is not None:
            yield process


def descendants(pid: int) -> list[Process]:
    """Its children, their children and so on, zombies not counted."""
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
    """Differs from boot to boot."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
