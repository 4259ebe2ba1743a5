"""The two clocks of a machine: one runs on while it sleeps, the other is set from outside."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Clock:
    """Both in seconds. Together they show that a machine was suspended: see clock_gettime(2)."""

    boottime: Callable[[], float] = _boottime
    wall: Callable[[], float] = time.time
