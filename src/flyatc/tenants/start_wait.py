"""The wait for one start: its deadline, its place in line, and the clients that wait for it."""

import asyncio
import math
from collections.abc import Callable

from flyatc.tenants.errors import NotReadyInTime, Queued
from flyatc.tenants.record import StateTracker
from flyatc.tenants.scheduler import InFlight
from flyatc.tenants.start_queue import Turn
from flyatc.tenants.state import State

KEPT = 15.0  # seconds; how long a place in the queue is kept for a client that will reload the waiting page
LATE = 1.0  # seconds that a client waits beyond the start's deadline, in case the start is slow to give up


class StartWait:
    """The wait for the start of one run. ``stop`` ends the run; its argument is a reason."""

    def __init__(
        self,
        address: str,
        start_timeout: float,
        visitors: InFlight,
        tracker: StateTracker,
        stop: Callable[[str], None],
    ) -> None:
        self.settled = asyncio.Event()  # the app is ready, or the run ends
        self._address, self._start_timeout = address, start_timeout
        self._visitors, self._tracker, self._stop = visitors, tracker, stop
        self._gives_up_at = self._now() + start_timeout  # inf while it waits in line
        self._turn: Turn | None = None
        self._kept_until: float | None = None  # its place in line; None: no client has left yet

    @property
    def place(self) -> int | None:
        """Place in the queue for limits.starting: 1 is the next; None: it does not wait there."""
        return None if self._turn is None else self._turn.place

    # --- the run ---

    async def queue(self, turn: Turn, limit: asyncio.Timeout) -> None:
        """Wait for the turn. ``limit`` is the timeout of ``start_timeout``: it is suspended meanwhile, and making it
        expire ends the wait."""
        if turn.come.is_set():
            return
        left = self._gives_up_at - self._now()
        limit.reschedule(None)
        self._turn, self._gives_up_at = turn, math.inf
        try:
            self._tracker.to(State.QUEUED, f"place {turn.place} in line: limits.starting apps are being started")
            if self._kept_until is not None and not self._visitors.count:
                self.left()
            await turn.come.wait()
        finally:
            self._gives_up_at = self._now() + left
        if limit.when() is not None:  # stopped in this iteration of the loop
            raise TimeoutError
        limit.reschedule(self._gives_up_at)

    # --- its clients ---

    async def wait(self, late: Callable[[], str]) -> None:
        """Wait until it is settled: ``start_timeout`` while it is queued, else as long as the start may take.
        ``late`` returns the reason of a timeout. Raises Queued, NotReadyInTime."""
        in_line_until = self._now() + self._start_timeout
        while True:
            until = self._gives_up_at + LATE if self.place is None else in_line_until
            try:
                async with asyncio.timeout_at(until):
                    await self.settled.wait()
                    return
            except TimeoutError:
                place, now = self.place, self._now()
                if place is not None and now >= in_line_until:
                    raise Queued(self._address, f"place {place} in line to be started", LATE, place) from None
                if place is None and now >= self._gives_up_at + LATE:
                    raise NotReadyInTime(self._address, late(), LATE) from None

    def left(self, kept: float = 0.0) -> None:
        """Note that a waiting client has left. If no other waits, stop the run: at once, or after ``kept`` seconds
        without a client."""
        now = self._now()
        self._kept_until = max(self._kept_until or now, now + kept)
        if self._visitors.count or self._tracker.state is not State.QUEUED:
            return
        if now < self._kept_until:
            asyncio.get_running_loop().call_at(self._kept_until, self.left)
        else:
            self._stop("no client waits for it any more")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
