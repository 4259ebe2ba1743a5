"""Operations of a running daemon for the control API (control.types.Operations)."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from time import monotonic, time
from typing import Protocol, TypeVar

from msgspec import structs

from flyatc import __version__
from flyatc.admin import store_access
from flyatc.config import reload
from flyatc.config.schema import Config, Tenant
from flyatc.control import route_explanation, types
from flyatc.cost.usage import Usage
from flyatc.daemon import usage_report
from flyatc.daemon.copies import Copies
from flyatc.daemon.leases import local_tenants
from flyatc.daemon.wiring import Parts
from flyatc.databases import local_files
from flyatc.databases.app_files import facade
from flyatc.databases.decisions.version_choice import Choice
from flyatc.edge import maintenance_rules
from flyatc.edge.upstream import Gateway
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress
from flyatc.observe.counters import Counters
from flyatc.observe.log import Journal, stamp
from flyatc.routing import placement_rules

LOOK_SECONDS = 0.02  # s; between two checks whether a pause has drained
R = TypeVar("R")


class Host(Protocol):
    """The running daemon."""

    config: Config
    stopping: bool

    async def reload(self) -> reload.Changes: ...

    def idle_at(self) -> float | None: ...


class Operations:
    """Implementation of control.types.Operations."""

    def __init__(self, daemon: Host, parts: Parts) -> None:
        self._daemon, self._parts = daemon, parts
        self._started = stamp(time())
        self._copies = Copies(parts.databases, parts.data / ".flyatc")

    @property
    def journal(self) -> Journal:
        return self._parts.log.journal

    @property
    def counters(self) -> Counters:
        counters, cache = self._parts.recorder.counters, self._parts.cache
        if cache is not None:
            counters.cache = asdict(cache.counts) | {"evicted": cache.evicted}
            counters.cache_bytes, counters.cache_entries = cache.octets, cache.entries
        return counters

    @property
    def stopping(self) -> bool:
        return self._daemon.stopping

    def status(self, *, seen: bool = False) -> types.Overview:
        config, fleet = self._daemon.config, self._parts.fleet
        tenants = fleet.status_of_seen() if seen else fleet.status()
        idle_at, maintenance = self._daemon.idle_at(), self._parts.maintenance
        return types.Overview(
            tenants=tenants,
            closed=[types.Closed(scope=_address(one), message=text) for one, text in maintenance.closed.items()],
            paused=[
                types.Paused(
                    scope=_address(scope),
                    since=stamp(pause.since),
                    limit=pause.limit,
                    waiting=maintenance.waiting(scope),
                )
                for scope, pause in maintenance.paused.items()
            ],
            verified=None if self._parts.verification is None else self._parts.verification.summary(),
            daemon=types.Daemon(
                version=__version__,
                pid=os.getpid(),
                started=self._started,
                listen=f"{config.server.listen.host or '*'}:{self._parts.listener.port}",
                config=str(config.path),
                running=sum(one.pid is not None for one in tenants),
                limit=config.limits.running,
                idle_at=None if idle_at is None else stamp(idle_at),
                idle_then=config.machine_idle.then,
                not_separated=self._parts.sandbox.lacking(config),
                store=self._parts.store_start.why,
            ),
        )

    def explain(self, url: str) -> types.Explanation:
        found = route_explanation.explain(self._daemon.config, self._parts.handler.routes, url)
        if found.user is None or found.name is None:
            return found
        tenant = self._parts.fleet.find(found.user, found.name)
        return structs.replace(found, state=None if tenant is None else str(tenant.status().state))

    def address(self, pasted: str) -> str | None:
        return route_explanation.address(self._daemon.config, self._parts.handler.routes, pasted)

    async def with_data(self, user: str | None) -> list[str]:
        """Those that are configured and that this machine may serve. Raises FlyatcError: the store does not answer."""
        config = self._daemon.config
        if user is not None:
            self._parts.fleet.select(user)
        found = {one.address: one for one in await local_tenants(config, user or "*")}
        if self._parts.store is not None:
            for one in (await store_access.take_inventory(self._parts.store, user)).databases:
                tenant = config.tenant_kept_as(one.user, one.key)
                found[tenant.address] = tenant
        listed = [address for address in config.tenants if address in found]
        others = [one for one in found.values() if one == config.tenant_of_pattern(one.user, one.name)]
        known = [*(found[address] for address in listed), *sorted(others, key=lambda one: one.address)]
        return [one.address for one in known if config.serves(one.user)]

    def tenant(self, address: str) -> types.TenantDetails:
        tenant = self._parts.fleet.one(address)
        spec, through = tenant.spec, tenant.peek()
        return types.TenantDetails(
            status=self._parts.fleet.status_of(address),
            path=f"{spec.prefix}/",
            tunnels=through.tunnels if isinstance(through, Gateway) else 0,
            activity=self._parts.usage.activity.of(spec.address, time()),
            databases=[
                types.LocalDatabase(name, _size(spec.data / name)) for name in self._parts.databases.held.names(spec)
            ],
            files=list(spec.app.files),
        )

    async def usage(self, days: int) -> Usage:
        return await usage_report.report(self._parts, self._daemon.config, days)

    async def start(self, address: str) -> None:
        """Start tenants. Raises FlyatcError if requests would be sent to another machine."""
        await self._refuse_elsewhere(address)
        await self._parts.fleet.start(address)

    async def stop(self, address: str) -> None:
        await self._parts.fleet.stop(address)

    async def restart(self, address: str) -> None:
        """Restart tenants. Raises as ``start``."""
        await self._refuse_elsewhere(address)
        await self._parts.fleet.restart(address)

    async def release(self, user: str, to: str | None, *, remove: bool = False) -> None:
        """Release a user. Continues if the operator disconnects."""
        await tasks.joined(tasks.start(self._release(user, to, remove), f"release {user}"))

    async def _release(self, user: str, to: str | None, remove: bool) -> None:
        async with self._parts.fleet.emptied(user):
            try:
                await self._parts.leases.release(self._parts.fleet.select(user)[0].spec, to, remove=remove)
            finally:  # another machine may change its data from now on
                self._clear_cache(user)
        if remove:
            self._parts.log.event("info", "user removed", user=user)
        if to is not None:
            self._parts.log.event("info", "user released to a machine", user=user, machine=to)

    async def _refuse_elsewhere(self, address: str) -> None:
        user_placement = self._parts.user_placement
        user = self._parts.fleet.select(address)[0].spec.user
        place = await user_placement.find(user) if user_placement is not None else None
        if isinstance(place, placement_rules.There):
            raise FlyatcError(f"{user} belongs to {place.target}: start it there. {place.explanation}")

    async def reload(self) -> types.Reloaded:
        found = await self._daemon.reload()
        return types.Reloaded(
            added=list(found.added),
            removed=list(found.removed),
            changed=list(found.changed),
            restart=list(found.restart),
        )

    async def maintain(self, address: str | None, message: str | None, *, closed: bool) -> bool:
        maintenance = self._parts.maintenance
        scope = self._scope(address, maintenance.closed)
        if not closed:
            return _written(lambda: maintenance.open(scope))
        _written(lambda: maintenance.close(scope, message))
        return True

    async def pause(self, address: str | None, limit: float) -> types.Drained:
        maintenance, log, began = self._parts.maintenance, self._parts.log, monotonic()
        scope = self._scope(address, maintenance.paused)
        _written(lambda: maintenance.pause(scope, limit))
        name = maintenance_rules.named(scope)
        while (left := self._in_flight(scope)).requests:
            if scope not in maintenance.paused:
                raise FlyatcError(f"{name} was resumed by another operator before the apps had responded to all")
            if monotonic() - began > limit:
                log.event("warning", "paused, but not drained within the limit", scope=name, requests=left.requests)
                return left
            await asyncio.sleep(LOOK_SECONDS)
        ms = round((monotonic() - began) * 1000)
        log.event("info", "drained: no paused app has a request", scope=name, tunnels=left.tunnels, ms=ms)
        return left

    async def resume(self, address: str | None) -> int | None:
        maintenance = self._parts.maintenance
        scope = self._scope(address, maintenance.paused)
        return _written(lambda: maintenance.resume(scope))

    def _in_flight(self, scope: str) -> types.Drained:
        """Count requests which apps are serving, or which wait for a start under way. Tunnels are counted apart: they
        may never end, so a pause does not wait for them."""
        requests = tunnels = 0
        for tenant in self._parts.fleet.known():
            if maintenance_rules.covers(scope, tenant.spec.address):
                through = tenant.peek()
                opened = through.tunnels if isinstance(through, Gateway) else 0
                tunnels += opened
                requests += tenant.status().requests - opened
        return types.Drained(requests, tunnels)

    def _scope(self, address: str | None, active: Mapping[str, object]) -> str:
        """Check the address. Raises NoSuchTenant, unless in ``active``: a rule for a removed tenant can be lifted."""
        if address is None:
            return maintenance_rules.EVERYTHING
        if address not in active:
            self._parts.fleet.select(address)
        return address

    async def clear_cache(self, address: str | None) -> int:
        if address is not None:
            self._parts.fleet.select(address)
        return self._clear_cache(address)

    def _clear_cache(self, address: str | None) -> int:
        cache = self._parts.cache
        return 0 if cache is None else cache.clear(*([] if address is None else [address]))

    async def backup(self, address: str, database: str | None, progress: Progress) -> None:
        live = self._parts.fleet.databases(address)
        if live is not None:
            await live.save(progress, database)
        else:
            tenant = self._parts.fleet.one(address)
            if self._daemon.config.storage.mode != "none" and await self._lacks(tenant.spec):
                tenant.mark_unsaved("the store does not have it")
            async with self._parts.fleet.paused(address):  # stopped, which saves what was unsaved
                pass
        overlooked = self._parts.fleet.one(address).status().overlooked if database is None else []
        if overlooked:
            raise FlyatcError(f"saved, but not all of it: {'; '.join(overlooked)}")

    async def _lacks(self, tenant: Tenant) -> bool:
        """True if the store has nothing of a local database: it may be another store than before."""
        stored = {one.database for one in await self._parts.databases.history(tenant)}
        names = [name for name in tenant.app.databases if name not in stored]
        here = await asyncio.to_thread(lambda: [name for name in names if (tenant.data / name).is_file()])
        return bool(here) or bool(tenant.patterns and not stored and tenant.data.is_dir())

    async def restore(self, address: str, database: str | None, choice: Choice, progress: Progress) -> list[str]:
        tenant = self._parts.fleet.one(address).spec
        async with self._parts.fleet.paused(address), self._parts.leases.hold(tenant) as lease:
            try:
                return await self._parts.databases.restore(tenant, database, choice, progress, lease)
            finally:  # what is cached was made of other data
                self._clear_cache(tenant.address)

    def copy(
        self, address: str, database: str, choice: Choice, progress: Progress
    ) -> AbstractAsyncContextManager[Path]:
        return self._copies.made(self._parts.fleet.one(address).spec, database, choice, progress)

    async def history(self, address: str, database: str | None) -> types.History:
        tenant = self._parts.fleet.one(address).spec
        versions = await self._parts.databases.history(tenant, database)
        orphans = await self._parts.databases.orphans(tenant)
        return types.History(
            versions=[
                types.Version(
                    database=one.database,
                    id=one.id,
                    saved=stamp(one.saved),
                    size=one.size,
                    compressed=one.compressed,
                    current=one.current,
                    beside=dict(one.beside),
                )
                for one in versions
            ],
            notes=facade.notes(versions),
            orphans=[str(path) for path in orphans],
        )


def _address(scope: str) -> str | None:
    return None if scope == maintenance_rules.EVERYTHING else scope


def _size(database: Path) -> int | None:
    """Bytes of a database with its WAL; None: there is no file."""
    try:
        return local_files.size(database) + local_files.wal_size(database)
    except OSError:
        return None


def _written(change: Callable[[], R]) -> R:
    try:
        return change()
    except OSError as error:
        raise FlyatcError(f"it could not be stored, and so is not done: {error.strerror}") from error
