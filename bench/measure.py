"""What a proxy costs: processor time and resident memory of its whole family, read from /proc."""

import os
import re
import statistics
from collections.abc import Iterable
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def family(pid: int, strangers: Iterable[int] = ()) -> list[int]:
    """``pid`` and all that descend from it, without ``strangers`` and theirs (the apps behind the proxy)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    shut, found, todo = set(strangers), [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += [child for child in children.get(one, ()) if child not in shut]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far, by the kernel's clock ticks (mostly 10 ms: measure over seconds)."""
    return sum(cpu_times(pids))


def cpu_times(pids: Iterable[int]) -> tuple[float, float]:
    """User time and system time so far, in seconds."""
    found = [f for pid in pids if (f := _stat(pid))]
    return sum(int(f[11]) for f in found) * TICK, sum(int(f[12]) for f in found) * TICK


def resident_octets(pids: Iterable[int]) -> int:
    """Pages in memory; pages that several of them share are counted for each."""
    return sum(int(f[21]) * PAGE for pid in pids if (f := _stat(pid)))


def forget_peak(pid: int) -> None:
    """``peak_octets`` counts from now on: proc_pid_clear_refs(5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_octets(pid: int) -> int:
    """The most it has ever had in memory; 0: it is gone."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")


def _stat(pid: int) -> list[str]:
    """proc_pid_stat(5) from its third field (state) on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
