"""Shared state of a daemon's tenants, the sweep that stops idle ones, and the deadline of a shutdown."""

import asyncio
import contextlib
import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, thread_time
from typing import Protocol

from flyatc.config.schema import App
from flyatc.observe.log import EventLog
from flyatc.tenants import idle
from flyatc.tenants.in_flight import InFlight
from flyatc.tenants.interfaces import Tools
from flyatc.tenants.newcomers import Newcomers
from flyatc.tenants.running_limit import RunningLimit
from flyatc.tenants.start_queue import StartQueue
from flyatc.tenants.state import STOP_STATES, Status

COLLECTING = 0.01  # of the loop's time, at most, is spent on collecting garbage
SAVE_RESERVE = 5.0  # seconds of a shutdown reserved for saving, if the deadline allows

TICK = 0.001  # seconds; a timer may fire a little early, and without this tolerance the sweep would busy-loop


class ScheduledTenant(Protocol):
    """Interface of a tenant for the scheduler."""

    def snapshot(self) -> idle.Snapshot: ...

    def stop(self, why: str, *, again: bool = False) -> None: ...

    def look(self) -> None:
        """Begin to look at the work of its app."""

    def status(self) -> Status: ...

    @property
    def unsettled(self) -> bool:
        """True if it is starting or stopping, or has unsaved data."""

    async def closed(self) -> None:
        """Wait until it is stopped, and saved or given up."""

    def abandon(self) -> None:
        """Cancel its run."""

    def folder_was_deleted(self, gone: Callable[[Path], bool]) -> bool:
        """Return whether its databases are open here and their folder was deleted."""

    async def kill_and_wait(self, why: str) -> None:
        """Kill its app because its folder was deleted, and wait for the end of the run."""


class Scheduler:
    """State shared by all tenants. ``wall`` is Unix time. ``awake``: the tenants to keep in memory, by address: those
    with a run, a back-off or unsaved data."""

    def __init__(self, tools: Tools, log: EventLog, wall: Callable[[], float], running: int, starting: int) -> None:
        self.tools, self.log, self.wall = tools, log, wall
        self.requests = InFlight()  # counts the tenants with requests
        self.working: set[str] = set()  # the tenants whose apps were last seen to work without requests
        self.awake: dict[str, ScheduledTenant] = {}
        self.running_limit = RunningLimit(running, self._leaving, self._evict)
        self.newcomers = Newcomers(tools.known)
        self.starts = StartQueue(starting)
        self.hurry = asyncio.Event()  # no more draining, no more grace
        self._collect_after = 0.0  # monotonic
        self._closing_since: float | None = None
        self._notice = 0.0  # seconds from then to the deadline of the shutdown
        self._look = asyncio.Event()
        self._look_at = math.inf

    # --- idleness ---

    async def sweep(self) -> None:
        """Stop idle tenants; never returns."""
        while True:
            steps, self._look_at = idle.sweep(self._snapshots(), asyncio.get_running_loop().time() + TICK)
            for step in steps:
                if isinstance(step, idle.Look):
                    self.awake[step.tenant].look()
                else:
                    self.awake[step.tenant].stop(step.why, again=step.again)
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if self._look_at == math.inf else self._look_at):
                    await self._look.wait()

    def check_idle_at(self, due: float) -> None:
        """Note that a tenant may be idle and must be checked at ``due``. On the path of each request."""
        limit = self.running_limit
        if limit._line or len(limit.inside) > limit._limit:  # ``crowded``, without its call
            limit.evict_for_waiters()
        if due < self._look_at:
            self._look.set()

    def _snapshots(self) -> Iterator[idle.Snapshot]:
        """Yield the tenants that have a place. Those that wait for one are left out: a flood would slow each sweep."""
        return (self.awake[tenant].snapshot() for tenant in self.running_limit.inside)

    def _evict(self, newcomer: bool) -> bool:
        tenant = idle.tenant_to_evict(self._snapshots(), newcomer=newcomer)
        if tenant is None:
            return False
        self.awake[tenant].stop("another tenant needs its place")
        return True

    def _leaving(self) -> int:
        return sum(one.state in STOP_STATES for one in self._snapshots())

    def collect_garbage(self) -> None:
        """Free what ended runs have left in circles of references: it would stay until thousands of objects were made.
        A millisecond with few apps, and more with many: hence a share of the time."""
        if monotonic() >= self._collect_after:
            began = thread_time()
            gc.collect()
            self._collect_after = monotonic() + (thread_time() - began) / COLLECTING

    # --- shutdown ---

    @property
    def closing(self) -> bool:
        return self._closing_since is not None

    def close_within(self, seconds: float) -> None:
        """Begin the shutdown: from now on only save-only runs start."""
        self._closing_since, self._notice = asyncio.get_running_loop().time(), seconds

    def drain_deadline(self, app: App) -> float:
        """Return the deadline, by the loop's clock, of a drain that begins now.

        A shutdown leaves time to end the app and to save; if its notice is short, three quarters of it."""
        enough = asyncio.get_running_loop().time() + app.drain_timeout
        if self._closing_since is None:
            return enough
        share = max(self._notice - app.stop_grace - SAVE_RESERVE, self._notice / 4)
        return min(enough, self._closing_since + share)
