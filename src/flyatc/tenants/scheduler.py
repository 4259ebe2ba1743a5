"""Shared state of a daemon's tenants: tools, idle sweep, in-flight counts, and limits."""

import asyncio
import contextlib
import gc
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from flyatc.config.schema import App, Tenant
from flyatc.kit.timing import TokenBucket
from flyatc.observe.log import EventLog
from flyatc.tenants import idle
from flyatc.tenants.interfaces import Gateway, Tools
from flyatc.tenants.start_queue import StartQueue
from flyatc.tenants.state import STOP_STATES, Status

COLLECTING = 1.0  # seconds from one collection of garbage to the next
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

    async def lose(self, why: str) -> None:
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
        self._collected = -math.inf  # when, by the loop's clock
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
        tenant = idle.to_evict(self._snapshots(), newcomer=newcomer)
        if tenant is None:
            return False
        self.awake[tenant].stop("another tenant needs its place")
        return True

    def _leaving(self) -> int:
        return sum(one.state in STOP_STATES for one in self._snapshots())

    def collect_garbage(self) -> None:
        """Free what ended runs have left in circles of references: it would stay until thousands of objects were made.
        A millisecond, at most once in COLLECTING seconds."""
        now = asyncio.get_running_loop().time()
        if now >= self._collected + COLLECTING:
            self._collected = now
            gc.collect()

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


@dataclass(frozen=True, eq=False)
class _Waiter:
    turn: asyncio.Future[None]
    tenant: str
    newcomer: bool


class RunningLimit:
    """Semaphore for ``limits.running`` with a queue and eviction of idle apps.

    ``leaving`` returns the number of places about to be released. ``evict`` stops an idle app, for a newcomer or not,
    and returns whether there was one. Newcomers queue behind all others and evict only newcomers: see
    ``idle.to_evict``. Both callbacks act without awaiting, so that a decision is still valid when it is executed."""

    def __init__(self, limit: int, leaving: Callable[[], int], evict: Callable[[bool], bool]) -> None:
        self._limit, self._leaving, self._evict = limit, leaving, evict
        self.inside: set[str] = set()  # the tenants that have a place
        self._line: deque[_Waiter] = deque()

    @contextlib.asynccontextmanager
    async def place(self, tenant: str, *, newcomer: bool = False) -> AsyncIterator[None]:
        """Hold a place, in the order of arrival. The wait has no timeout of its own."""
        if self.full:
            await self._wait(tenant, newcomer)
        else:
            self.inside.add(tenant)
        try:
            yield
        finally:
            self.inside.remove(tenant)
            self._seat()

    def resize(self, limit: int) -> None:
        self._limit = limit
        self._seat()
        self.evict_for_waiters()

    def evict_for_waiters(self) -> None:
        """Evict as many idle apps as are needed. Must be called whenever an app may have become idle."""
        others = sum(not one.newcomer for one in self._line)
        for needed, newcomer in ((others, False), (len(self._line), True)):
            while needed + len(self.inside) - self._limit > self._leaving():
                if not self._evict(newcomer):
                    break

    @property
    def full(self) -> bool:
        """True if a new tenant has to wait."""
        return bool(self._line) or len(self.inside) >= self._limit

    @property
    def crowded(self) -> bool:
        return bool(self._line) or len(self.inside) > self._limit

    async def _wait(self, tenant: str, newcomer: bool) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tenant, newcomer)
        turn = waiter.turn
        self._line.append(waiter)
        self.evict_for_waiters()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # granted and cancelled in the same loop iteration
                self.inside.remove(tenant)
                self._seat()
            else:
                with contextlib.suppress(ValueError):
                    self._line.remove(waiter)
            raise

    def _seat(self) -> None:
        while self._line and len(self.inside) < self._limit:
            waiter = next((one for one in self._line if not one.newcomer), self._line[0])
            self._line.remove(waiter)
            if not waiter.turn.done():  # done: cancelled, but its task has not run since
                self.inside.add(waiter.tenant)
                waiter.turn.set_result(None)


class InFlight:
    """Counter of requests, tunnels and waits that knows since when it is zero.

    ``within``: a parent counter of the non-zero counters. ``quiet`` is called whenever the count drops to zero."""

    __slots__ = ("_empty", "_now", "_quiet", "_within", "count", "quiet_since")

    def __init__(self, within: "InFlight | None" = None, quiet: Callable[[], None] | None = None) -> None:
        self._now = asyncio.get_running_loop().time
        self._within, self._quiet = within, quiet
        self._empty: asyncio.Event | None = None
        self.count = 0
        self.quiet_since = self._now()  # the loop's clock; meaningless while count > 0

    def enter(self) -> None:
        self.count += 1
        if self.count == 1 and self._within is not None:
            self._within.enter()

    def exit(self) -> None:
        self.count -= 1
        if self.count:
            return
        self.quiet_since = self._now()
        if self._empty is not None:
            self._empty.set()
        if self._within is not None:
            self._within.exit()
        if self._quiet is not None:
            self._quiet()

    async def gone(self) -> None:
        """Wait until the count is zero. For one caller, at a time when no new requests are admitted."""
        if self.count:
            self._empty = asyncio.Event()
            await self._empty.wait()


class InFlightRequest:
    """One request, served through ``gateway``. The app is not idle before ``end``."""

    __slots__ = ("_requests", "gateway", "port")

    def __init__(self, gateway: Gateway, port: int, requests: InFlight) -> None:
        """Take over one count of ``requests``, which the caller has already added."""
        self.gateway: Final = gateway
        self.port: Final = port
        self._requests: InFlight | None = requests

    def end(self) -> None:
        """May be called more than once."""
        requests, self._requests = self._requests, None
        if requests is not None:
            requests.exit()


Known = Callable[[Tenant], Awaitable[bool]]


class TooManyNewcomers(Exception):
    def __str__(self) -> str:
        return "requests for unknown users come faster than such users are started"


class Start(Protocol):
    newcomer: bool  # set to False once its user proves to be known


class Newcomers:
    """Rate limits for users without an entry in tenants.yaml, a lease record or data: of starts and lookups. Anyone can
    invent user names, and each start costs a place, a process and a write to the store.

    ``known`` returns whether a user has data or a lease; None: every user has."""

    def __init__(self, known: Known | None) -> None:
        self._known = known
        self._starts = TokenBucket(at_once=100, a_second=5, under_way=100)
        self._looks = TokenBucket(at_once=500, a_second=50, under_way=50)  # the store also serves other users

    async def is_one(self, user_of: Tenant, *, crowded: bool) -> bool:
        """Return whether to treat the tenant as a newcomer. Looks its user up only if all places are taken
        (``crowded``) or newcomers exceed their rate; otherwise, or beyond the rate of lookups, returns True."""
        if self._known is None:
            return False
        if (not crowded and self._starts.allows(_now())) or not self._looks.allows(_now()):
            return True
        self._looks.enter(_now())
        found = False
        try:
            found = await self._known(user_of)
        finally:
            self._looks.exit(known=found)
        return not found

    @contextlib.contextmanager
    def counted(self, start: Start) -> Iterator[None]:
        """Count a newcomer while it waits for its place and its lease. Raises TooManyNewcomers."""
        if not start.newcomer:
            yield
            return
        if not self._starts.allows(_now()):
            raise TooManyNewcomers
        self._starts.enter(_now())
        try:
            yield
        finally:
            self._starts.exit(known=not start.newcomer)


def _now() -> float:
    return asyncio.get_running_loop().time()
