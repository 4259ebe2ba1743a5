"""All tenants of this daemon: lookup, operator commands, reload and shutdown."""

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from time import time
from typing import Any
from weakref import WeakValueDictionary

from msgspec import structs

from flyatc.config.schema import Config
from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.observe.log import EventLog, stamp
from flyatc.tenants import start_queue
from flyatc.tenants.errors import NoSuchTenant
from flyatc.tenants.interfaces import Databases, Tools
from flyatc.tenants.scheduler import SAVE_RESERVE, Scheduler
from flyatc.tenants.state import State, Status
from flyatc.tenants.tenant import Tenant

RECOVERING = 4  # tenants saved at the same time when the daemon starts


class Fleet:
    """All tenants. Create it in a running event loop. ``wall``: Unix time, for status output."""

    def __init__(self, config: Config, tools: Tools, log: EventLog, *, wall: Callable[[], float] = time) -> None:
        self._config, self._log = config, log
        self._scheduler = Scheduler(tools, log, wall, config.limits.running, _starting(config))
        self._since = stamp(wall())
        self.saved_before: Mapping[str, float] = {}  # Unix time by address: last saves of earlier daemons here
        self._configured: dict[tuple[str, str], Tenant] = {}
        # Every tenant that is still referenced (by its run, a request, or this object). So there is one object an
        # address, and unused tenants of the pattern are dropped: clients may probe a million user names.
        self._known: WeakValueDictionary[tuple[str, str], Tenant] = WeakValueDictionary()

    # --- for the edge ---

    def find(self, user: str, name: str) -> Tenant | None:
        """Return the tenant, or None if it does not exist. ``user`` is one path segment."""
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
        """Return every configured tenant, in the file's order, then the active ones of the pattern."""
        return [self._status(spec) for spec in self._config.tenants.values()] + self._status_of_others()

    def status_of_seen(self) -> list[Status]:
        """As ``status``, without those that nothing has asked for since the start of the daemon: they are stopped."""
        return [self._with_last_save(one.status()) for one in self._configured.values()] + self._status_of_others()

    def _status_of_others(self) -> list[Status]:
        others = [one.status() for address, one in self._scheduler.awake.items() if address not in self._config.tenants]
        return sorted(others, key=lambda one: one.tenant)

    def _status(self, spec: Spec) -> Status:
        tenant = self._configured.get((spec.user, spec.name))
        if tenant is not None:
            found = tenant.status()
        else:
            found = Status(tenant=spec.address, user=spec.user, state=State.STOPPED, since=self._since)
        return self._with_last_save(found)

    def _with_last_save(self, found: Status) -> Status:
        before = self.saved_before.get(found.tenant)
        if found.saved_at is None and found.pid is None and before is not None:
            return structs.replace(found, saved_at=stamp(before))
        return found

    def status_of(self, address: str) -> Status:
        """Return the status of one tenant. Raises NoSuchTenant."""
        return self._with_last_save(self.one(address).status())

    async def start(self, address: str) -> None:
        """Start a tenant, or all tenants of a user. Raises NoSuchTenant, errors.Unavailable (of the first failure)."""
        await _all(one.start() for one in self.select(address))

    async def stop(self, address: str) -> None:
        """Stop the tenants and wait for their ends. Raises NoSuchTenant, kit.errors.SaveFailed."""
        await _all(one.stopped("asked to stop") for one in self.select(address))

    async def restart(self, address: str) -> None:
        """Stop and start the tenants, also those that do not run. Raises what start and stop raise."""
        await _all(self._restart(one) for one in self.select(address))

    @staticmethod
    async def _restart(tenant: Tenant) -> None:
        await tenant.stopped("asked to restart")
        await tenant.start()

    @contextlib.asynccontextmanager
    async def paused(self, address: str) -> AsyncIterator[bool]:
        """Drain, save and keep one tenant stopped while requests wait. Yields whether it ran; if so, it is restarted.

        Raises NoSuchTenant, kit.errors.SaveFailed."""
        self._scheduler.requests.enter()  # the machine is not idle during this work
        try:
            async with self.one(address).paused("it is paused") as ran:
                yield ran
        finally:
            self._scheduler.requests.exit()

    @contextlib.asynccontextmanager
    async def emptied(self, user: str) -> AsyncIterator[None]:
        """Drain, save and keep all tenants of a user stopped while requests wait, so that nothing of it is held.

        Raises NoSuchTenant, kit.errors.SaveFailed."""
        async with contextlib.AsyncExitStack() as stopped:

            async def stop(tenant: Tenant) -> None:
                await stopped.enter_async_context(tenant.paused("its user is released", resume=False))

            await _all(stop(one) for one in self.select(user))
            yield

    def databases(self, address: str) -> Databases | None:
        """Return the databases of a tenant; None unless it is ready. Raises NoSuchTenant."""
        return self.one(address).databases

    def one(self, address: str) -> Tenant:
        """Find one tenant. The address must name the tenant if the user has several. Raises NoSuchTenant."""
        user, _, name = address.partition("/")
        tenant = self.find(user, name)
        if tenant is None:
            raise NoSuchTenant(address, self._nearest(address))
        return tenant

    def select(self, address: str) -> list[Tenant]:
        """Return one tenant, or all tenants if the address is a user. Raises NoSuchTenant."""
        user, _, name = address.partition("/")
        if name:
            return [self.one(address)]
        pattern = self._config.pattern
        names = [spec.name for spec in self._config.tenants.values() if spec.user == user]
        names += [of_pattern for of_pattern, _ in pattern.tenants] if pattern is not None else []
        found = [tenant for one in dict.fromkeys(names) if (tenant := self.find(user, one)) is not None]
        return found or [self.one(address)]

    def known(self) -> list[Tenant]:
        """Return all tenants that are still referenced, including all with a run or requests."""
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
        """Stop idle tenants and restart changed ones; never returns."""
        await self._scheduler.sweep()

    def quiet_for(self) -> float:
        """Seconds since the last request of any tenant ended; 0 while there is one, or an app was last seen to work."""
        if self._scheduler.requests.count or self._scheduler.working:
            return 0.0
        return asyncio.get_running_loop().time() - self._scheduler.requests.quiet_since

    async def rest(self, why: str) -> None:
        """Stop every running tenant and save unsaved data. Requests that arrive meanwhile wait, then start a new run.
        Raises kit.errors.SaveFailed."""
        await _all(one.stopped(why) for one in self.known() if not one.at_rest)

    async def recover(self, addresses: Iterable[str]) -> None:
        """Save the tenants whose local copy is newer than the store, RECOVERING at a time. Tries each once."""
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

    async def kill_deleted(self, why: str, *, gone: Callable[[Path], bool]) -> list[str]:
        """Kill the apps whose folder was deleted while their databases were open. Returns their addresses."""
        lost = {address: one for address, one in self._scheduler.awake.items() if one.folder_was_deleted(gone)}
        for address in lost:
            self._log.event("error", "the folder of a running app was deleted: it is killed", tenant=address)
        await _all(one.kill_and_wait(why) for one in lost.values())
        return list(lost)

    def tenants_of_pattern(self) -> list[Spec]:
        """Return the specs of the pattern's tenants that exist now, for the comparison by config.reload."""
        return [one.spec for one in self._known.values() if one.spec.address not in self._config.tenants]

    def apply(self, config: Config) -> None:
        """Reload. Removed tenants drain and stop; changed ones restart when idle; the others are not affected.

        Settings that need a restart of the daemon (such as server.data) must be unchanged: see config.reload."""
        self._config = config
        self._scheduler.running_limit.resize(config.limits.running)
        self._scheduler.starts.resize(_starting(config))
        self._configured = {}
        for (user, name), tenant in list(self._known.items()):
            if self._admit(user, name) is None:
                tenant.remove()

    async def close(self, deadline: float) -> bool:
        """Stop all tenants in parallel within ``deadline`` seconds; return whether everything was saved.

        Near the deadline it calls ``hurry``. Runs that still go on are cut short, and their local copies kept."""
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
        """Wait for the stops. The runs left ``last`` seconds before the deadline are abandoned."""
        _, pending = await asyncio.wait(ends, timeout=deadline - last)
        if pending:
            for one in list(self._scheduler.awake.values()):
                one.abandon()
            await asyncio.wait(pending, timeout=last)
            for end in pending:
                end.cancel()

    @property
    def hurried(self) -> bool:
        """True once ``hurry`` was called."""
        return self._scheduler.hurry.is_set()

    def hurry(self) -> None:
        """Skip draining and grace periods: after a second signal, or near the deadline."""
        self._scheduler.hurry.set()


def _starting(config: Config) -> int:
    return config.limits.starting or start_queue.default_limit()


async def _all(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run the steps in parallel, wait for all, then raise the first error."""
    running = [tasks.start(step, "command") for step in steps]
    try:
        results = await asyncio.gather(*running, return_exceptions=True)
    finally:
        for one in running:
            one.cancel()
    for result in results:
        if isinstance(result, BaseException):
            raise result
