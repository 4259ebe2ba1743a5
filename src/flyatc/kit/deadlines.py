"""When a call to the outside must have ended. Pure: times are seconds of one monotonic clock."""

import math
from dataclasses import dataclass
from typing import Protocol


@dataclass
class CallProgress:
    """How far a call has come. ``moved``: when it last made progress; ``total``: its size in bytes, 0 if unknown."""

    asked: float
    begun: float | None = None  # None: it waits for a thread
    moved: float = -math.inf
    total: int = 0


class Deadline(Protocol):
    def due(self, course: CallProgress) -> float:
        """The time at which the call is given up, as far as can be said now; ``inf``: not known yet."""


@dataclass(frozen=True)
class Within:
    """A total time, the wait for a thread included."""

    seconds: float

    def due(self, course: CallProgress) -> float:
        return course.asked + self.seconds


@dataclass(frozen=True)
class Moving:
    """For transfers: no progress for ``stall`` seconds, or ``patience`` plus what the size takes at ``slowest`` bytes/s
    in all. Counted from the moment at which a thread takes it: those before it have deadlines too."""

    stall: float
    patience: float
    slowest: float

    def due(self, course: CallProgress) -> float:
        if course.begun is None:
            return math.inf
        stalled = max(course.begun, course.moved) + self.stall
        return min(stalled, course.begun + self.patience + course.total / self.slowest)
