"""What the tenants of one daemon share: their tools, the room for running apps, and the watch over who is idle."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from flyatc.config.schema import App
from flyatc.tenants import idle
from flyatc.tenants.lifecycle import LEAVING
from flyatc.tenants.newcomers import Newcomers
from flyatc.tenants.ports import Teller, Tools
from flyatc.tenants.room import Room
from flyatc.tenants.start_queue import StartQueue
from flyatc.tenants.status import Status
from flyatc.tenants.visitors import Visitors

SAVE_RESERVE = 5.0  # seconds which a shutdown leaves for saving, where it has them

TICK = 0.001  # a timer may fire a little early; what is due so soon is due, or the sweep would turn on the spot


class Lodger(Protocol):
    """A tenant, as the house sees it."""

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


class House:
    """``wall`` is Unix time. ``awake``: the tenants which must not be forgotten, by address: they have a life,
    setbacks, or something to save."""

    def __init__(self, tools: Tools, log: Teller, wall: Callable[[], float], running: int, starting: int) -> None:
        self.tools, self.log, self.wall = tools, log, wall
        self.visitors = Visitors()  # counts the tenants which have some
        self.awake: dict[str, Lodger] = {}
        self.room = Room(running, self._leaving, self._evict)
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
        return sum(one.state in LEAVING for one in self._snapshots())

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
