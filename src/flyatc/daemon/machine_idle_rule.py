"""Decide if the machine is idle and is to stop, suspend or exit. Pure: clock readings are arguments."""

import math
from dataclasses import dataclass

from flyatc.config.schema_sections import MachineIdle
from flyatc.kit import timing

FIRST, MOST = 2.0, 300.0  # s; between a failed attempt to sleep and the next


@dataclass(frozen=True)
class Due:
    reason: str


@dataclass(frozen=True)
class NotYet:
    """``left``: seconds until it is due if no request comes; inf: not counting down now."""

    reason: str
    left: float


@dataclass(frozen=True)
class Seen:
    """All in seconds. ``quiet``: since the last request, 0 during one. ``up``: since the daemon started or the machine
    woke. ``failures``: number of consecutive failed attempts to sleep; ``since``: since the last of them."""

    quiet: float
    up: float
    failures: int = 0
    since: float = math.inf


def machine_idle_due(settings: MachineIdle, seen: Seen) -> Due | NotYet:
    """Decide if the machine is to stop, suspend or exit now."""
    if settings.then == "none":
        return NotYet("machine_idle.then is none", math.inf)
    if not seen.quiet:
        return NotYet("a request is served", math.inf)
    quiet, pause = min(seen.quiet, seen.up), timing.delay(seen.failures, FIRST, MOST)
    if quiet < settings.after:
        return NotYet(f"no request for {quiet:.0f} s of {settings.after:g}", settings.after - quiet)
    if seen.since < pause:
        return NotYet(f"the last attempt failed, the next is made {pause:g} s after it", pause - seen.since)
    return Due(f"no request for {settings.after:g} s")
