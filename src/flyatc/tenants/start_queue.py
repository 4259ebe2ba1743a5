"""Queue for ``limits.starting``, the number of apps between spawn and ready at the same time.

A starting app usually keeps a core busy. Eighty at once on two cores are all ready late, and delay the warm apps. A
starting app that uses no CPU releases its turn, so that one slow start does not delay the others."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from flyatc.kit import tasks
from flyatc.kit.types import Effort

LOOK = 0.5  # s; between two measurements of a starting app's CPU time
IDLE_LOOKS = 3
LEAST_SHARE = 0.1  # of a core
PER_CORE = 2  # with one, cores stay unused while apps wait for the disk, or beside other load: bench/herd.py


def default() -> int:
    """Return the default limit: PER_CORE times the cores that this process may use."""
    return PER_CORE * len(os.sched_getaffinity(0))


class StartQueue:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._starting: set[Turn] = set()
        self._line: deque[Turn] = deque()

    @contextlib.contextmanager
    def turn(self, *, newcomer: bool = False) -> Iterator["Turn"]:
        """Take a turn at once if one is free, else a place in the queue: in the order of arrival, newcomers (see
        ``newcomers``) behind all others. Released on exit."""
        one = Turn(self, newcomer=newcomer)
        if self._line or len(self._starting) >= self._limit:
            others = len(self._line) if newcomer else sum(not waiting.newcomer for waiting in self._line)
            self._line.insert(others, one)
        else:
            self._grant(one)
        try:
            yield one
        finally:
            one.give_back()

    def place(self, one: "Turn") -> int | None:
        """Return the place in the queue: 1 is the next; None: it does not wait."""
        return self._line.index(one) + 1 if one in self._line else None

    def resize(self, limit: int) -> None:
        self._limit = limit
        self._advance()

    def leave(self, one: "Turn") -> None:
        self._starting.discard(one)
        with contextlib.suppress(ValueError):
            self._line.remove(one)
        self._advance()

    def _advance(self) -> None:
        while self._line and len(self._starting) < self._limit:
            self._grant(self._line.popleft())

    def _grant(self, one: "Turn") -> None:
        self._starting.add(one)
        one.come.set()


class Turn:
    __slots__ = ("_queue", "come", "newcomer")

    def __init__(self, queue: StartQueue, *, newcomer: bool) -> None:
        self._queue, self.newcomer = queue, newcomer
        self.come = asyncio.Event()  # it may start now

    @property
    def place(self) -> int | None:
        """Place in the queue: 1 is the next; None: it no longer waits."""
        return self._queue.place(self)

    @contextlib.contextmanager
    def watched(self, effort: Callable[[], Awaitable[Effort]]) -> Iterator[None]:
        """Watch the CPU time of the app while it starts."""
        watch = tasks.start(self._watch(effort), "start")
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self, effort: Callable[[], Awaitable[Effort]]) -> None:
        """Release the turn after IDLE_LOOKS measurements without CPU use: the app waits for something else."""
        idle, before = 0, 0.0
        while idle < IDLE_LOOKS:
            await asyncio.sleep(LOOK)
            now = await effort()
            idle = 0 if now.wants or abs(now.cpu - before) > LEAST_SHARE * LOOK else idle + 1
            before = now.cpu
        self.give_back()

    def give_back(self) -> None:
        """May be called more than once."""
        self._queue.leave(self)
