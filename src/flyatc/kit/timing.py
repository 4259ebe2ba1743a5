"""Deadlines of calls to external services, and retry delays. Pure: times are seconds of one monotonic clock."""

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass
class CallProgress:
    """Progress of a call. ``moved``: time of the last progress; ``total``: size in bytes, 0 if unknown."""

    asked: float
    begun: float | None = None  # None: waits for a thread
    moved: float = -math.inf
    total: int = 0


class Deadline(Protocol):
    def due(self, course: CallProgress) -> float:
        """Return the time at which the call is abandoned, as known now; ``inf``: not known yet."""


@dataclass(frozen=True)
class Within:
    """A total time, including the wait for a thread."""

    seconds: float

    def due(self, course: CallProgress) -> float:
        return course.asked + self.seconds


@dataclass(frozen=True)
class Moving:
    """For transfers: at most ``stall`` seconds without progress, and ``patience`` seconds plus the size at ``slowest``
    bytes/s in total. Counted from when a thread takes the job: the jobs before it have deadlines too."""

    stall: float
    patience: float
    slowest: float

    def due(self, course: CallProgress) -> float:
        if course.begun is None:
            return math.inf
        stalled = max(course.begun, course.moved) + self.stall
        return min(stalled, course.begun + self.patience + course.total / self.slowest)


def delay(failures: int, first: float = 1.0, most: float = 60.0) -> float:
    """Return the delay in seconds after ``failures`` in a row: 0 → 0, 1 → ``first``, then doubling up to ``most``."""
    if failures <= 0:
        return 0.0
    return min(most, first * 2.0 ** min(failures - 1, 60))
