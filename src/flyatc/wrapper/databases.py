"""Databases of the wrapped app: locked, restored before it starts, saved when it has ended."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from flyatc.config import placeholders
from flyatc.config.resolve import ALONE
from flyatc.config.schema import Config, Tenant
from flyatc.daemon.leases import DaemonLeases
from flyatc.daemon.tenant_secrets import TenantSecrets
from flyatc.daemon.wiring import DataLock, streams_of
from flyatc.databases.service import DatabaseService
from flyatc.kit import timing
from flyatc.kit.errors import HeldElsewhere, OwnershipUnknown, StillRunning
from flyatc.objects.open_store import store_of
from flyatc.objects.store import StoreRefused, StoreUnavailable
from flyatc.objects.threaded_store import ThreadedStore
from flyatc.observe.log import Log
from flyatc.ownership.lease import Lease
from flyatc.process import launch_plan, proc, termination
from flyatc.process.child_records import Records
from flyatc.process.leftovers import end_leftovers
from flyatc.process.members import MARK, Cgroups, Target, describe
from flyatc.process.supervisor_client import Launcher

OWNER_PAUSE = 0.5  # s; between two attempts to acquire the lease


class Held(NamedTuple):
    """Additions to the app's environment. ``mark``: empty if there are no databases; ``secrets``: see launch_plan."""

    mark: str
    secrets: Mapping[str, str]


def environment(config: Config | None, environ: Mapping[str, str], port: int, held: Held) -> dict[str, str]:
    """Return the app's environment: flyatc's own except FLYATC_SECRET, its PORT, and the file's ``app.env``. Raises
    StartFailed."""
    whole = {**environ, "PORT": str(port)}
    whole.pop(placeholders.SECRET_VARIABLE, None)
    if config is None:
        return whole
    whole[MARK] = held.mark
    tenant = config.tenants[ALONE]
    known = {**launch_plan.words(tenant, port), **held.secrets}
    for name, text in tenant.app.env.items():
        if text is None:
            whole.pop(name, None)
        else:
            whole[name] = launch_plan.expand(text, known, environ)
    return whole


def sendfile_roots(config: Config | None, port: int) -> list[str]:
    """Return the folders of delivery.sendfile.roots, absolute. Raises StartFailed."""
    if config is None:
        return []
    tenant = config.tenants[ALONE]
    known = launch_plan.words(tenant, port)
    return [launch_plan.expand(root, known, os.environ) for root in tenant.app.delivery.sendfile.roots]


@contextlib.contextmanager
def lock_data_folder(config: Config | None) -> Iterator[None]:
    """Lock the data folder against other daemons. Raises FlyatcError."""
    lock = None if config is None else DataLock(Path(config.server.data))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextlib.asynccontextmanager
async def held(config: Config | None, log: Log) -> AsyncIterator[Held]:
    """Open the databases. Yields additions to the app's environment.

    Entry makes them current and acquires the lease; raises FlyatcError, RestoreRefused. Exit ends the processes that
    the app left behind and saves the databases; raises SaveFailed, StillRunning."""
    if config is None:
        yield Held("", {})
        return
    tenant = config.tenants[ALONE]
    store = store_of(config.storage, os.environ, log=log)
    records = Records(Path(config.server.data))
    service = DatabaseService(store, config.storage, log, _expand, streams_of(config, store, os.environ, records, log))
    launcher = Launcher(log, Cgroups(None), Path(config.server.data))
    leases = DaemonLeases(config, os.environ, log, service, launcher.deadline)
    try:
        await end_leftovers(Path(config.server.data), log)
        if store is not None:
            await _opened(store, leases, tenant.app.start_timeout, log)
        keys = TenantSecrets(os.environ, store, Path(config.server.data))
        await keys.load(tenant)
        async with _acquired(leases, tenant, log) as lease, service.hold(tenant, lease):
            launcher.open()
            others = {process.pid for process in _children()}  # litestream, and children from before an exec of flyatc
            with records.starting(tenant.address, mark := secrets.token_hex(8), ""):
                launcher.adopt(Target(os.getpid(), _started(), mark, spared=others))
                try:
                    yield Held(mark, keys.words(tenant))
                finally:
                    spared = {*others, *filter(None, [launcher.pid])}  # the supervisor may have been replaced
                    await _end_the_rest(spared, tenant.app.stop_grace, log)
                    launcher.drop(mark, "")
    finally:
        await launcher.close()
        await service.still()
        await leases.leave()
        await asyncio.to_thread(partial(_close, service, leases, store))  # it waits for threads


async def _opened(store: ThreadedStore, leases: DaemonLeases, patience: float, log: Log) -> None:
    """Open the store. It may be unavailable while a machine boots, so retry for ``patience`` seconds.

    Raises StoreRefused, StoreUnavailable."""
    clock, failures = asyncio.get_running_loop().time, 0
    until = clock() + patience
    while True:
        try:
            await leases.open()
            await store.open()
            return await store.check()
        except StoreUnavailable as error:
            failures += 1
            pause = timing.delay(failures, first=0.5, most=5.0)
            if isinstance(error, StoreRefused) or clock() + pause > until:
                raise
            log.event("warning", "the store is away: the app waits for it", reason=str(error))
        await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def _acquired(leases: DaemonLeases, tenant: Tenant, log: Log) -> AsyncIterator[Lease]:
    """Acquire the lease. At a deploy the previous machine may still be saving, so retry for ``start_timeout``.

    Raises HeldElsewhere, OwnershipUnknown."""
    clock, logged = asyncio.get_running_loop().time, False
    until = clock() + tenant.app.start_timeout
    while True:
        try:
            async with contextlib.AsyncExitStack() as taken:
                lease = await taken.enter_async_context(leases.hold(tenant))
                held = taken.pop_all()
            break
        except (HeldElsewhere, OwnershipUnknown) as error:
            if clock() > until:
                raise
            if not logged:
                log.event("info", "the databases are not free yet: waiting", reason=str(error))
            logged = True
            await asyncio.sleep(OWNER_PAUSE)
    async with held:
        yield lease


def _expand(text: str, tenant: Tenant) -> str:
    return launch_plan.expand(text, launch_plan.words(tenant, 0), os.environ)


def _close(service: DatabaseService, leases: DaemonLeases, store: ThreadedStore | None) -> None:
    service.close()
    leases.close()
    if store is not None:
        store.close()


def _children() -> list[proc.Process]:
    """Return the children of this process, including adopted orphans."""
    me = os.getpid()
    return [process for process in proc.scan() if process.parent == me and not process.ended]


async def _end_the_rest(spared: set[int], grace: float, log: Log) -> None:
    """End the processes that the app left behind, which may still write: SIGTERM, then SIGKILL. As a subreaper this
    process is their root. Raises StillRunning."""
    target = Target(os.getpid(), _started(), "", spared=spared)

    def gone() -> bool:
        return not target.find() and not target.find()

    ended_by = await termination.end_run(target, leader=0, leader_alive=bool, gone=gone, grace=grace, hurry=bool)
    if ended_by is termination.EndedBy.SURVIVED:
        left = "; ".join(map(describe, target.find()))
        log.event("error", "the app left a process that survives SIGKILL: its databases may be written", left=left)
        raise StillRunning(f"what the app left cannot be ended: {left}. Its databases may still be written")


def _started() -> int:
    itself = proc.find(os.getpid())
    assert itself is not None
    return itself.started
