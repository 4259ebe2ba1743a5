"""Deadlines of calls to external services, retry delays, rate limits. Pure: times are of one monotonic clock, in s."""

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


class TokenBucket:
    """A burst of ``at_once``, then ``a_second`` each second; at most ``under_way`` at the same time. The token is
    returned if the name turns out to be known."""

    def __init__(self, at_once: float, a_second: float, under_way: int) -> None:
        self._at_once, self._a_second, self._most = at_once, a_second, under_way
        self._left, self._at = at_once, 0.0
        self._under_way = 0

    def allows(self, now: float) -> bool:
        """Return whether one more may begin."""
        return self._under_way < self._most and self._refilled(now) >= 1.0

    def enter(self, now: float) -> None:
        """Take a token: one begins."""
        self._left, self._at = self._refilled(now) - 1.0, now
        self._under_way += 1

    def exit(self, *, known: bool) -> None:
        """One has ended. ``known``: the name exists, so its token is returned."""
        self._under_way -= 1
        if known:
            self._left = min(self._at_once, self._left + 1.0)

    def _refilled(self, now: float) -> float:
        return min(self._at_once, self._left + (now - self._at) * self._a_second)
