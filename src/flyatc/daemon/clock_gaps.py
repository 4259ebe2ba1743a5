"""Explain gaps between clock readings: a suspended machine, a busy or stopped process. Pure."""

import math
from dataclasses import dataclass
from enum import Enum

JUMP = 1.0  # s; wall clock against CLOCK_BOOTTIME, or CLOCK_BOOTTIME against CLOCK_MONOTONIC
REPORT_SECONDS = 60.0


@dataclass(frozen=True)
class Reading:
    """Seconds, by ``kit.machine_clocks``. ``ran``, ``waited``: CPU and run-queue time of the loop's thread."""

    boottime: float
    wall: float
    monotonic: float
    ran: float
    waited: float


@dataclass(frozen=True)
class Slept:
    """The machine was suspended."""

    sign: str


class Cause(Enum):
    BUSY = "the event loop was busy itself"
    CROWDED = "other processes had the cores"
    STOPPED = "the process was stopped (SIGSTOP, a paused virtual machine), or waited for a disk"


@dataclass(frozen=True)
class Stalled:
    """The machine was awake, and the event loop did not run."""

    seconds: float
    cause: Cause


def explain_clock_gap(first: Reading, before: Reading, now: Reading, most: float) -> Slept | Stalled | None:
    """Cause of a gap between two readings of the clocks, or None. ``first``: first reading; ``most``: longest normal
    time from ``before`` to ``now``.

    A suspended machine shows in its clocks: the wall clock is set after it has woken, or, if the kernel itself was
    suspended, CLOCK_BOOTTIME gains on CLOCK_MONOTONIC. A busy or waiting thread shows in its own times."""
    jump = (now.wall - now.boottime) - (first.wall - first.boottime)
    if abs(jump) > JUMP:
        return Slept(f"the wall clock jumped by {jump:.1f} s")
    suspended = (now.boottime - now.monotonic) - (before.boottime - before.monotonic)
    if suspended > JUMP:
        return Slept(f"the kernel was suspended for {suspended:.1f} s")
    passed = now.boottime - before.boottime
    if passed <= most:
        return None
    ran, waited = now.ran - before.ran, now.waited - before.waited
    if ran + waited < passed / 2:
        return Stalled(passed, Cause.STOPPED)
    return Stalled(passed, Cause.BUSY if ran >= waited else Cause.CROWDED)


class StallReports:
    """Limit reports of stalls to one in REPORT_SECONDS: a busy machine needs no more work."""

    def __init__(self) -> None:
        self._next, self._count, self._seconds = -math.inf, 0, 0.0

    def add(self, stalled: Stalled, now: float) -> dict[str, object] | None:
        """Fields of a log line, which cover all stalls since the last one; None: do not log now."""
        self._count, self._seconds = self._count + 1, self._seconds + stalled.seconds
        if now < self._next:
            return None
        fields: dict[str, object] = {"seconds": round(stalled.seconds, 1), "cause": stalled.cause.value}
        if self._count > 1:
            fields |= {"times": self._count, "seconds_in_all": round(self._seconds, 1)}
        self._next, self._count, self._seconds = now + REPORT_SECONDS, 0, 0.0
        return fields
