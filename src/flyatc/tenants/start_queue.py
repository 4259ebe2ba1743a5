"""Queue for ``limits.starting``, the number of apps between spawn and ready at the same time; the wait for one start.

A starting app usually keeps a core busy. Eighty at once on two cores are all ready late, and delay the warm apps. A
starting app that uses no CPU releases its turn, so that one slow start does not delay the others."""

import asyncio
import contextlib
import math
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from flyatc.config.schema import Tenant
from flyatc.kit import tasks
from flyatc.kit.types import Effort
from flyatc.tenants.errors import NotReadyInTime, Queued
from flyatc.tenants.run_history import StateTracker
from flyatc.tenants.state import State

LOOK = 0.5  # s; between two measurements of a starting app's CPU time
IDLE_LOOKS = 3
LEAST_SHARE = 0.1  # of a core
PER_CORE = 2  # with one, cores stay unused while apps wait for the disk, or beside other load: bench/herd.py


def default_limit() -> int:
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
        ``newcomers.Newcomers``) behind all others. Released on exit."""
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
        one.granted.set()


class Turn:
    __slots__ = ("_queue", "granted", "newcomer")

    def __init__(self, queue: StartQueue, *, newcomer: bool) -> None:
        self._queue, self.newcomer = queue, newcomer
        self.granted = asyncio.Event()  # it may start now

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


KEPT = 15.0  # seconds; how long a place in the queue is kept for a client that will reload the waiting page
LATE = 1.0  # seconds that a client waits beyond the start's deadline, in case the start is slow to give up


class StartWait:
    """The wait for the start of one run. ``waiting``: the number of clients that wait; ``stop`` ends the run, its
    argument is a reason."""

    def __init__(
        self,
        spec: Tenant,
        waiting: Callable[[], int],
        tracker: StateTracker,
        stop: Callable[[str], None],
    ) -> None:
        self.settled = asyncio.Event()  # the app is ready, or the run ends
        self._address, self._start_timeout = spec.address, spec.app.start_timeout
        self._waiting, self._tracker, self._stop = waiting, tracker, stop
        self._gives_up_at = self._now() + self._start_timeout  # inf while it waits in line
        self._turn: Turn | None = None
        self._kept_until: float | None = None  # its place in line; None: no client has left yet
        self._preparing = False  # the commands of app.before_start run

    @property
    def place(self) -> int | None:
        """Place in the queue for limits.starting: 1 is the next; None: it does not wait there."""
        return None if self._turn is None else self._turn.place

    # --- the run ---

    async def queue(self, turn: Turn, limit: asyncio.Timeout) -> None:
        """Wait for the turn. ``limit`` is the timeout of ``start_timeout``: it is suspended meanwhile, and making it
        expire ends the wait."""
        if turn.granted.is_set():
            return
        left = self._gives_up_at - self._now()
        limit.reschedule(None)
        self._turn, self._gives_up_at = turn, math.inf
        try:
            self._tracker.change_to(State.QUEUED, f"place {turn.place} in line: limits.starting apps are being started")
            if self._kept_until is not None and not self._waiting():
                self.left()
            await turn.granted.wait()
        finally:
            self._gives_up_at = self._now() + left
        if limit.when() is not None:  # stopped in this iteration of the loop
            raise TimeoutError
        limit.reschedule(self._gives_up_at)

    @contextlib.contextmanager
    def suspended(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Suspend ``start_timeout`` while the commands of ``app.before_start`` run. ``limit``: as for ``queue``."""
        left = self._gives_up_at - self._now()
        limit.reschedule(None)
        self._preparing, self._gives_up_at = True, math.inf
        try:
            yield
        finally:
            self._preparing, self._gives_up_at = False, self._now() + left
        if limit.when() is not None:  # stopped in this iteration of the loop
            raise TimeoutError
        limit.reschedule(self._gives_up_at)

    # --- its clients ---

    async def wait(self, late: Callable[[], str]) -> None:
        """Wait until it is settled: ``start_timeout`` while it is queued or prepared, else as long as the start may
        take. ``late`` returns the reason of a timeout. Raises Queued, NotReadyInTime."""
        in_line_until = self._now() + self._start_timeout
        while True:
            until = self._gives_up_at + LATE if self.place is None and not self._preparing else in_line_until
            try:
                async with asyncio.timeout_at(until):
                    await self.settled.wait()
                    return
            except TimeoutError:
                place, now = self.place, self._now()
                if place is not None and now >= in_line_until:
                    raise Queued(self._address, f"place {place} in line to be started", LATE, place) from None
                if self._preparing and now >= in_line_until:
                    raise NotReadyInTime(self._address, "before_start is not done yet", LATE) from None
                if place is None and now >= self._gives_up_at + LATE:
                    raise NotReadyInTime(self._address, late(), LATE) from None

    def left(self, kept: float = 0.0) -> None:
        """Note that a waiting client has left. If no other waits, stop the run: at once, or after ``kept`` seconds
        without a client."""
        now = self._now()
        self._kept_until = max(self._kept_until or now, now + kept)
        if self._waiting() or self._tracker.state is not State.QUEUED:
            return
        if now < self._kept_until:
            asyncio.get_running_loop().call_at(self._kept_until, self.left)
        else:
            self._stop("no client waits for it any more")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
