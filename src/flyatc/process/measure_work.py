"""CPU time of the processes of a run, and its threads that sleep. Blocking: some 30 µs for each process."""

import os
import time
from collections.abc import Iterable

from flyatc.kit.types import Work
from flyatc.process import proc

TICKS = os.sysconf("SC_CLK_TCK")  # a second
PAGE = os.sysconf("SC_PAGESIZE")  # bytes
SLEEPS = ("hrtimer_nanosleep", "do_nanosleep")  # kernel functions of nanosleep(2), clock_nanosleep(2)
MOST_THREADS = 2000  # examined in one look
STARTED = 19  # index of starttime in /proc/PID/stat, after the name


def seconds_since_boot() -> float:
    """Return the seconds since boot, the clock of ``measure``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def measure(pids: Iterable[int], since: float, until: float) -> Work:
    """Read the work of these processes. Of the threads that sleep, only those that began between ``since`` and
    ``until`` are listed. A kernel or sandbox that hides where threads wait lists none."""
    first, last = since * TICKS, until * TICKS
    cpu: dict[tuple[int, int], float] = {}
    asleep: dict[tuple[int, int], int] = {}
    left = MOST_THREADS
    for pid in pids:
        if (found := proc.find(pid)) is None:
            continue
        cpu[pid, found.started] = found.ticks / TICKS
        for thread in _threads(pid)[:left]:
            left -= 1
            if (mark := _asleep(pid, thread, first, last)) is not None:
                asleep[mark[0]] = mark[1]
    return Work(cpu, asleep)


def _threads(pid: int) -> list[str]:
    try:
        return [one.name for one in (proc.PROC / str(pid) / "task").iterdir()]
    except OSError:  # it has ended
        return []


def _asleep(pid: int, thread: str, first: float, last: float) -> tuple[tuple[int, int], int] | None:
    """Return the thread's id and start, and its CPU time in ns (proc_pid_schedstat: the first field), if it sleeps."""
    place = proc.PROC / str(pid) / "task" / thread
    try:
        started = int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[STARTED])
        if not first < started <= last or (place / "wchan").read_text() not in SLEEPS:
            return None
        return (int(thread), started), int((place / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):  # it has ended, or is not shown to us
        return None


def resident(pids: Iterable[int]) -> int:
    """Return the bytes of memory of these processes, without mapped files, which several may share. Some 15 µs each.

    proc_pid_statm(5): the second number is what is resident, the third what of it is shared, in pages."""
    pages = 0
    for pid in pids:
        try:
            fields = (proc.PROC / str(pid) / "statm").read_bytes().split()
            pages += int(fields[1]) - int(fields[2])
        except (OSError, ValueError, IndexError):  # it has ended
            continue
    return pages * PAGE


def resident_of_this_process() -> int:
    """Return its bytes of memory with mapped files. Raises OSError. proc_pid_statm(5): the second number, in pages."""
    return int((proc.PROC / "self" / "statm").read_bytes().split()[1]) * PAGE
