"""The clocks of a machine, and the calling thread's scheduling times (proc(5), "schedstat")."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")


_boottime = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def _scheduled() -> tuple[float, float]:
    try:
        ran, waited, _ = SCHEDSTAT.read_bytes().split()
    except (OSError, ValueError):  # a kernel without CONFIG_SCHED_INFO
        return time.thread_time(), 0.0
    return int(ran) / 1e9, int(waited) / 1e9


@dataclass(frozen=True)
class Clock:
    """Clocks in seconds. ``boottime`` runs on while the machine is suspended, ``monotonic`` does not, and ``wall`` is
    set from outside: together they reveal a suspension, see clock_gettime(2). ``scheduled``: how long the calling
    thread has run, and has waited for a core."""

    boottime: Callable[[], float] = _boottime
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    scheduled: Callable[[], tuple[float, float]] = _scheduled
