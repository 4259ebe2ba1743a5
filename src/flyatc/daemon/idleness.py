"""Whether a machine has been idle for long enough, and whether it stood still. Pure: readings of clocks are told."""

import math
from dataclasses import dataclass

from flyatc.config.platform import MachineIdle
from flyatc.kit import backoff

JUMP = 1.0  # s; of the wall clock against CLOCK_BOOTTIME
FIRST, MOST = 2.0, 300.0  # s; from a try to sleep that failed to the next


@dataclass(frozen=True)
class Due:
    reason: str


@dataclass(frozen=True)
class NotYet:
    """``left``: seconds until it is due if nobody comes; inf: that does not begin now."""

    reason: str
    left: float


@dataclass(frozen=True)
class Seen:
    """All in seconds. ``quiet``: since somebody was served, 0 while somebody is. ``up``: since the daemon began, or the
    machine woke. ``failures``: tries to sleep that failed, one after the other; ``since``: since the last of them."""

    quiet: float
    up: float
    failures: int = 0
    since: float = math.inf


def judge(settings: MachineIdle, seen: Seen) -> Due | NotYet:
    if settings.then == "none":
        return NotYet("machine_idle.then is none", math.inf)
    if not seen.quiet:
        return NotYet("somebody is served", math.inf)
    quiet, pause = min(seen.quiet, seen.up), backoff.delay(seen.failures, FIRST, MOST)
    if quiet < settings.after:
        return NotYet(f"nobody has come for {quiet:.0f} s of {settings.after:g}", settings.after - quiet)
    if seen.since < pause:
        return NotYet(f"the last try failed, and the next is made {pause:g} s after it", pause - seen.since)
    return Due(f"nobody has come for {settings.after:g} s")


@dataclass(frozen=True)
class Reading:
    """Seconds, both: see ownership.clock."""

    boottime: float
    wall: float


def gap(first: Reading, before: Reading, now: Reading, most: float) -> str | None:
    """How it shows that the machine slept, or was stopped. ``first``: from when it is watched; ``most``: so long at
    most passes from ``before`` to ``now`` where nothing is wrong."""
    jump = (now.wall - now.boottime) - (first.wall - first.boottime)
    if abs(jump) > JUMP:
        return f"the wall clock jumped by {jump:.1f} s"
    if now.boottime - before.boottime > most:
        return f"nothing ran for {now.boottime - before.boottime:.1f} s"
    return None
