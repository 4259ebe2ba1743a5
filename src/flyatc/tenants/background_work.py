"""Decide if an app works although no request is in flight. Pure: facts in, a reason out.

Three kinds of work are seen. **cpu**: its processes use more of a core than an idle server does. **writes**: its
databases change. **sleeps**: a thread or process that began during a request has slept, without waking, since the look
before: a job that waits for its time. A loop that wakes now and then is judged by its CPU time alone, or a scheduler
that a request has started would keep its app running for ever.
"""

from collections.abc import Collection
from dataclasses import dataclass

from flyatc.kit import units
from flyatc.kit.types import Work

FLOOR = 0.01  # of a core; idle servers use 0.0014 at most: see docs/deploy.md
LEAST = 0.05  # s of CPU time; the kernel counts in steps of 10 ms for each process


@dataclass(frozen=True, slots=True)
class Facts:
    """``at``: the loop's clock. ``written``: name and time (same clock) of the last change of a database."""

    at: float
    work: Work
    written: tuple[str, float] | None


@dataclass(frozen=True, slots=True)
class Active:
    at: float  # the loop's clock
    reason: str


def last_background_work(counts: Collection[str], before: Facts, now: Facts, since: float) -> Active | None:
    """Return the last work seen between the two looks; None: there was none. ``since``: only changes of databases
    after this time count."""
    if "cpu" in counts and (share := _share(before, now)) is not None:
        return Active(now.at, f"its processes use {share:.0%} of a core")
    if "sleeps" in counts and (asleep := _asleep(before.work, now.work)):
        what = "a thread" if asleep == 1 else f"{asleep} threads"
        return Active(now.at, f"{what} begun by a request wait{'s' if asleep == 1 else ''} for a time")
    if "writes" in counts and now.written is not None and since < now.written[1] <= now.at:
        name, at = now.written
        return Active(at, f"{name} was written {units.human_seconds(now.at - at)} before the last look")
    return None


def _share(before: Facts, now: Facts) -> float | None:
    """Return the share of a core that was used, if it is above the floor. Processes that ended in between, and whose
    parent does not wait for them, are left out."""
    passed = now.at - before.at
    used = sum(max(0.0, cpu - before.work.cpu.get(process, 0.0)) for process, cpu in now.work.cpu.items())
    return used / passed if passed > 0 and used >= max(LEAST, FLOOR * passed) else None


def _asleep(before: Work, now: Work) -> int:
    return sum(before.asleep.get(thread) == cpu for thread, cpu in now.asleep.items())
