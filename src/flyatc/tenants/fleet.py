"""All tenants of this daemon: finding one, commanding some, reloading, and the common end."""

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from time import time
from typing import Any
from weakref import WeakValueDictionary

from flyatc.config.schema import Config
from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.observe.log import stamp
from flyatc.tenants import start_queue
from flyatc.tenants.errors import NoSuchTenant
from flyatc.tenants.interfaces import Databases, EventLog, Tools
from flyatc.tenants.scheduler import SAVE_RESERVE, Scheduler
from flyatc.tenants.state import State, Status
from flyatc.tenants.tenant import Tenant

RECOVERING = 4  # tenants saved at the same time when the daemon starts


class Fleet:
    """To be made in a running loop. ``wall``: Unix time, for what is told to people."""

    def __init__(self, config: Config, tools: Tools, log: EventLog, *, wall: Callable[[], float] = time) -> None:
        self._config, self._log = config, log
        self._scheduler = Scheduler(tools, log, wall, config.limits.running, _starting(config))
        self._since = stamp(wall())
        self._configured: dict[tuple[str, str], Tenant] = {}
        # Every tenant that anybody still holds: its life, a visitor, us. So nobody can meet two of one address, and
        # those of the pattern are forgotten when nobody needs them: a million user names may be probed.
        self._known: WeakValueDictionary[tuple[str, str], Tenant] = WeakValueDictionary()

    # --- for the edge ---

    def find(self, user: str, name: str) -> Tenant | None:
        """None: there is no such tenant. ``user`` is one path segment."""
        tenant = self._configured.get((user, name)) or self._known.get((user, name))
        if tenant is not None and not tenant.removed:
            return tenant
        return self._admit(user, name)

    def _admit(self, user: str, name: str) -> Tenant | None:
        spec = self._spec(user, name)
        if spec is None:
            return None
        tenant = self._known.get((user, name))
        if tenant is None:
            tenant = self._known[user, name] = Tenant(spec, self._scheduler)
        tenant.respec(spec)
        tenant.listed = spec.user in self._config.users or spec.address in self._config.tenants
        if spec.address in self._config.tenants:
            self._configured[user, name] = tenant
        return tenant

    def _spec(self, user: str, name: str) -> Spec | None:
        spec = self._config.tenants.get(f"{user}/{name}" if name else user)
        if spec is not None and spec.user == user:
            return spec
        return self._config.tenant_of_pattern(user, name)

    # --- for operators ---

    def status(self) -> list[Status]:
        """Every configured tenant, in the file's order, and those of the pattern which live."""
        configured = [self._status(spec) for spec in self._config.tenants.values()]
        others = [one.status() for address, one in self._scheduler.awake.items() if address not in self._config.tenants]
        return configured + sorted(others, key=lambda one: one.tenant)

    def _status(self, spec: Spec) -> Status:
        tenant = self._configured.get((spec.user, spec.name))
        if tenant is not None:
            return tenant.status()
        return Status(tenant=spec.address, user=spec.user, state=State.STOPPED, since=self._since)

    async def start(self, address: str) -> None:
        """A user alone: all its tenants. Raises NoSuchTenant, errors.Unavailable (of the first that fails)."""
        await _all(one.start() for one in self.select(address))

    async def stop(self, address: str) -> None:
        """Returns when all are stopped. Raises NoSuchTenant, kit.errors.SaveFailed."""
        await _all(one.stopped("asked to stop") for one in self.select(address))

    async def restart(self, address: str) -> None:
        """Those that do not run are started. Raises what start and stop raise."""
        await _all(self._restart(one) for one in self.select(address))

    @staticmethod
    async def _restart(tenant: Tenant) -> None:
        await tenant.stopped("asked to restart")
        await tenant.start()

    @contextlib.asynccontextmanager
    async def paused(self, address: str) -> AsyncIterator[bool]:
        """One tenant: drained, saved and kept stopped, while visitors wait. Says whether it ran; if so, it will again.

        Raises NoSuchTenant, kit.errors.SaveFailed."""
        self._scheduler.visitors.enter()  # whoever works on it: the machine is not idle
        try:
            async with self.one(address).paused("it is paused") as ran:
                yield ran
        finally:
            self._scheduler.visitors.exit()

    @contextlib.asynccontextmanager
    async def emptied(self, user: str) -> AsyncIterator[None]:
        """All tenants of a user: drained, saved and kept stopped, while visitors wait; so that nothing of his is held.

        Raises NoSuchTenant, kit.errors.SaveFailed."""
        async with contextlib.AsyncExitStack() as stopped:

            async def stop(tenant: Tenant) -> None:
                await stopped.enter_async_context(tenant.paused("its user is released", resume=False))

            await _all(stop(one) for one in self.select(user))
            yield

    def databases(self, address: str) -> Databases | None:
        """Of a ready tenant. Raises NoSuchTenant."""
        return self.one(address).databases

    def one(self, address: str) -> Tenant:
        """As ``find``. A user with several tenants must name one of them. Raises NoSuchTenant."""
        user, _, name = address.partition("/")
        tenant = self.find(user, name)
        if tenant is None:
            raise NoSuchTenant(address, self._nearest(address))
        return tenant

    def select(self, address: str) -> list[Tenant]:
        """One tenant, or for a user alone all of his. Raises NoSuchTenant."""
        user, _, name = address.partition("/")
        if name:
            return [self.one(address)]
        pattern = self._config.pattern
        names = [spec.name for spec in self._config.tenants.values() if spec.user == user]
        names += [of_pattern for of_pattern, _ in pattern.tenants] if pattern is not None else []
        found = [tenant for one in dict.fromkeys(names) if (tenant := self.find(user, one)) is not None]
        return found or [self.one(address)]

    def known(self) -> list[Tenant]:
        """All that anybody still holds: those with a life or visitors among them."""
        return list(self._known.values())

    def _nearest(self, address: str) -> str | None:
        user = address.partition("/")[0]
        specs = self._config.tenants.values()
        of_user = [spec.address for spec in specs if spec.user == user]
        known = of_user or {spec.address for spec in specs} | {spec.user for spec in specs}
        near = difflib.get_close_matches(address, known, n=1)
        return near[0] if near else next(iter(of_user), None)

    # --- the daemon's own ---

    async def sweep(self) -> None:
        """Stops who is idle, restarts who has changed; never returns."""
        await self._scheduler.sweep()

    def quiet_for(self) -> float:
        """Seconds since the last visitor of all left, whatever goes on besides; 0 while there is one."""
        if self._scheduler.visitors.count:
            return 0.0
        return asyncio.get_running_loop().time() - self._scheduler.visitors.quiet_since

    async def rest(self, why: str) -> None:
        """Every tenant that runs is stopped, and what is unsaved is saved; who comes meanwhile waits for that, and
        begins a new life. Raises kit.errors.SaveFailed."""
        await _all(one.stopped(why) for one in self.known() if not one.at_rest)

    async def recover(self, addresses: Iterable[str]) -> None:
        """Saves the tenants whose local copy is newer than the store, a few at a time. Returns when each was tried."""
        turns = asyncio.Semaphore(RECOVERING)

        async def save(tenant: Tenant) -> None:
            async with turns:
                await tenant.rescue()

        owing: list[Tenant] = []
        for address in addresses:
            try:
                owing.append(self.one(address))
            except NoSuchTenant as error:
                self._log.event(
                    "error", "unsaved data of a tenant that is not configured", tenant=address, reason=str(error)
                )
        for tenant in owing:
            tenant.mark_unsaved("found newer than the store when the daemon started")
        await _all(save(tenant) for tenant in owing)

    async def lose(self, why: str, *, gone: Callable[[Path], bool]) -> list[str]:
        """Tenants whose folder was deleted while their databases were open: their apps are killed. Their addresses."""
        lost = {address: one for address, one in self._scheduler.awake.items() if one.loses(gone)}
        for address in lost:
            self._log.event("error", "the folder of a running app was deleted: it is killed", tenant=address)
        await _all(one.lose(why) for one in lost.values())
        return list(lost)

    def made(self) -> list[Spec]:
        """The tenants of the pattern that exist now: config.changes judges them with the listed ones."""
        return [one.spec for one in self._known.values() if one.spec.address not in self._config.tenants]

    def apply(self, config: Config) -> None:
        """A reload. Removed tenants drain and stop; changed ones restart when idle; the rest go on undisturbed.

        What only a restart of the daemon can change (server.data above all) must be as it was: see config.changes."""
        self._config = config
        self._scheduler.room.resize(config.limits.running)
        self._scheduler.starts.resize(_starting(config))
        self._configured = {}
        for (user, name), tenant in list(self._known.items()):
            if self._admit(user, name) is None:
                tenant.remove()

    async def close(self, deadline: float) -> bool:
        """Stops all, in parallel, within ``deadline`` seconds; says whether everything was saved.

        Near the end it hurries by itself; what is not over then is cut short, its local copy kept."""
        loop = asyncio.get_running_loop()
        self._scheduler.close_within(deadline)
        near = loop.call_later(deadline - min(SAVE_RESERVE, deadline / 4), self.hurry)
        awake = list(self._scheduler.awake.values())
        ends = [tasks.start(one.closed(), "close") for one in awake]
        for one in awake:
            one.stop("the daemon is going away")
        try:
            if ends:
                await self._ended_or_cut(ends, deadline, min(1.0, deadline / 8))
        finally:
            near.cancel()
        return not any(one.unsettled for one in awake)

    async def _ended_or_cut(self, ends: list[asyncio.Task[None]], deadline: float, last: float) -> None:
        """``last``: the seconds before the deadline which are left to those who are cut short."""
        _, pending = await asyncio.wait(ends, timeout=deadline - last)
        if pending:
            for one in list(self._scheduler.awake.values()):
                one.abandon()
            await asyncio.wait(pending, timeout=last)
            for end in pending:
                end.cancel()

    def hurry(self) -> None:
        """A second signal, or the deadline is near: no more draining, no more grace."""
        self._scheduler.hurry.set()


def _starting(config: Config) -> int:
    return config.limits.starting or start_queue.default()


async def _all(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """In parallel, each to its end; then raises the first error."""
    running = [tasks.start(step, "command") for step in steps]
    try:
        results = await asyncio.gather(*running, return_exceptions=True)
    finally:
        for one in running:
            one.cancel()
    for result in results:
        if isinstance(result, BaseException):
            raise result
