"""What the tenants of one daemon share: their tools, the room for running apps, and the watch over who is idle.

``limits.running``: how many apps may run at the same time. Who finds no place waits in a line.

Who is here: requests in flight, open tunnels, and those who wait to be served.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from flyatc.config.schema import App
from flyatc.tenants import idle
from flyatc.tenants.interfaces import EventLog, Gateway, Tools
from flyatc.tenants.newcomers import Newcomers
from flyatc.tenants.start_queue import StartQueue
from flyatc.tenants.state import STOP_STATES, Status

SAVE_RESERVE = 5.0  # seconds which a shutdown leaves for saving, where it has them

TICK = 0.001  # a timer may fire a little early; what is due so soon is due, or the sweep would turn on the spot


class ScheduledTenant(Protocol):
    """A tenant, as the scheduler sees it."""

    def snapshot(self) -> idle.Snapshot: ...

    def stop(self, why: str, *, again: bool = False) -> None: ...

    def status(self) -> Status: ...

    @property
    def unsettled(self) -> bool:
        """Whether it is on its way up or down, or has unsaved data."""

    async def closed(self) -> None:
        """Returns when it is stopped, and saved or given up."""

    def abandon(self) -> None:
        """Cuts its life short wherever it is."""

    def loses(self, gone: Callable[[Path], bool]) -> bool:
        """Whether its databases are open here, and their folder is gone."""

    async def lose(self, why: str) -> None:
        """Its folder was deleted: its app is killed. Returns when that is over."""


class Scheduler:
    """``wall`` is Unix time. ``awake``: the tenants which must not be forgotten, by address: they have a life,
    setbacks, or something to save."""

    def __init__(self, tools: Tools, log: EventLog, wall: Callable[[], float], running: int, starting: int) -> None:
        self.tools, self.log, self.wall = tools, log, wall
        self.visitors = InFlight()  # counts the tenants which have some
        self.awake: dict[str, ScheduledTenant] = {}
        self.room = RunningLimit(running, self._leaving, self._evict)
        self.newcomers = Newcomers(tools.known)
        self.starts = StartQueue(starting)
        self.hurry = asyncio.Event()  # no more draining, no more grace
        self._closing_since: float | None = None
        self._notice = 0.0  # seconds from then until all must be over
        self._look = asyncio.Event()
        self._look_at = math.inf

    # --- idleness ---

    async def sweep(self) -> None:
        """Stops whoever is idle, for as long as it runs."""
        while True:
            stops, self._look_at = idle.sweep(self._snapshots(), asyncio.get_running_loop().time() + TICK)
            for stop in stops:
                self.awake[stop.tenant].stop(stop.why, again=stop.again)
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if self._look_at == math.inf else self._look_at):
                    await self._look.wait()

    def quiet(self, due: float) -> None:
        """A tenant may have become idle; at ``due`` something is to be done about it. On the path of each request."""
        if self.room.crowded:
            self.room.clear()
        if due < self._look_at:
            self._look.set()

    def _snapshots(self) -> Iterator[idle.Snapshot]:
        """Of those who have a place, never of those who wait for one: a flood of them must not make each look slow."""
        return (self.awake[tenant].snapshot() for tenant in self.room.inside)

    def _evict(self, newcomer: bool) -> bool:
        tenant = idle.to_evict(self._snapshots(), newcomer=newcomer)
        if tenant is None:
            return False
        self.awake[tenant].stop("another tenant needs its place")
        return True

    def _leaving(self) -> int:
        return sum(one.state in STOP_STATES for one in self._snapshots())

    # --- the end ---

    @property
    def closing(self) -> bool:
        return self._closing_since is not None

    def close_within(self, seconds: float) -> None:
        """From now on no life begins, but to save."""
        self._closing_since, self._notice = asyncio.get_running_loop().time(), seconds

    def drain_until(self, app: App) -> float:
        """The moment by the loop's clock when an app must not be drained any longer, if that begins now.

        A shutdown leaves time to end it and to save, or three quarters of a short notice."""
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
    """``leaving``: how many places are about to be given back. ``evict``: asks an idle app to leave, for a newcomer or
    not; says whether. Newcomers wait behind all others, and evict nobody but newcomers: see ``idle.to_evict``.

    Both act at once, without awaiting, so that what was decided is still true when it is done."""

    def __init__(self, limit: int, leaving: Callable[[], int], evict: Callable[[bool], bool]) -> None:
        self._limit, self._leaving, self._evict = limit, leaving, evict
        self.inside: set[str] = set()  # the tenants which have a place
        self._line: deque[_Waiter] = deque()

    @contextlib.asynccontextmanager
    async def place(self, tenant: str, *, newcomer: bool = False) -> AsyncIterator[None]:
        """A place, first come, first served. The wait has no end of its own: the caller's timeout ends it."""
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
        self.clear()

    def clear(self) -> None:
        """Evicts as many idle apps as are needed. To be called whenever an app may have become idle."""
        others = sum(not one.newcomer for one in self._line)
        for needed, newcomer in ((others, False), (len(self._line), True)):
            while needed + len(self.inside) - self._limit > self._leaving():
                if not self._evict(newcomer):
                    break

    @property
    def full(self) -> bool:
        """Whether who comes now has to wait."""
        return bool(self._line) or len(self.inside) >= self._limit

    @property
    def crowded(self) -> bool:
        return bool(self._line) or len(self.inside) > self._limit

    async def _wait(self, tenant: str, newcomer: bool) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tenant, newcomer)
        turn = waiter.turn
        self._line.append(waiter)
        self.clear()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # seated and told to go in the same turn of the loop
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
            if not waiter.turn.done():  # done: cancelled, and its task has not run since
                self.inside.add(waiter.tenant)
                waiter.turn.set_result(None)


class InFlight:
    """A count which knows since when it is zero. ``within``: a larger circle, which counts the circles with visitors.

    ``quiet`` is called each time the last one has left."""

    __slots__ = ("_nobody", "_now", "_quiet", "_within", "count", "quiet_since")

    def __init__(self, within: "InFlight | None" = None, quiet: Callable[[], None] | None = None) -> None:
        self._now = asyncio.get_running_loop().time
        self._within, self._quiet = within, quiet
        self._nobody: asyncio.Event | None = None
        self.count = 0
        self.quiet_since = self._now()  # the loop's clock; means nothing while somebody is here

    def enter(self) -> None:
        self.count += 1
        if self.count == 1 and self._within is not None:
            self._within.enter()

    def exit(self) -> None:
        self.count -= 1
        if self.count:
            return
        self.quiet_since = self._now()
        if self._nobody is not None:
            self._nobody.set()
        if self._within is not None:
            self._within.exit()
        if self._quiet is not None:
            self._quiet()

    async def gone(self) -> None:
        """Returns when nobody is here. For one caller, at a time when nobody new is let in."""
        if self.count:
            self._nobody = asyncio.Event()
            await self._nobody.wait()


class InFlightRequest:
    """One visitor, served by the app behind ``gateway``. The app is not idle before ``end``."""

    __slots__ = ("_visitors", "gateway", "port")

    def __init__(self, gateway: Gateway, port: int, visitors: InFlight) -> None:
        """The visitor has been counted already; from now on the visit owns his place in the count."""
        self.gateway: Final = gateway
        self.port: Final = port
        self._visitors: InFlight | None = visitors

    def end(self) -> None:
        """May be called more than once."""
        visitors, self._visitors = self._visitors, None
        if visitors is not None:
            visitors.exit()
