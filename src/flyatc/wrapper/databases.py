"""The databases of an app that runs without users: locked, made whole before it starts, saved when it has ended."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path

from flyatc.config.resolve import ALONE
from flyatc.config.schema import Config, Tenant
from flyatc.daemon.leases import DaemonLeases
from flyatc.daemon.wiring import DataLock, streams_of
from flyatc.databases.service import DatabaseService
from flyatc.databases.sole_owner import Lease
from flyatc.kit import backoff
from flyatc.kit.errors import HeldElsewhere, OwnershipUnknown, StillRunning
from flyatc.objects.open_store import OwnedStore, store_of
from flyatc.objects.store import StoreRefused, StoreUnavailable
from flyatc.observe.log import Log
from flyatc.process import launch_plan, proc, termination
from flyatc.process.members import MARK, Cgroups, Target, describe
from flyatc.process.pidfiles import Records, end_leftovers
from flyatc.process.supervisor_client import Launcher

OWNER_PAUSE = 0.5  # s; between two looks at who owns the databases


def environment(config: Config | None, environ: Mapping[str, str], port: int, mark: str) -> dict[str, str]:
    """What the app is given: all of ours, its PORT, and the file's ``app.env``. Raises StartFailed."""
    whole = {**environ, "PORT": str(port)}
    if config is None:
        return whole
    whole[MARK] = mark
    tenant = config.tenants[ALONE]
    for name, text in tenant.app.env.items():
        if text is None:
            whole.pop(name, None)
        else:
            whole[name] = launch_plan.expand(text, launch_plan.words(tenant, port), environ)
    return whole


@contextlib.contextmanager
def locked(config: Config | None) -> Iterator[None]:
    """Nobody else uses the data folder. Raises FlyatcError."""
    lock = None if config is None else DataLock(Path(config.server.data))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextlib.asynccontextmanager
async def held(config: Config | None, log: Log) -> AsyncIterator[str]:
    """Entry: the databases are whole, and nobody writes them; raises FlyatcError, RestoreRefused. The mark for the
    app's environment; empty where there are no databases. Exit: whoever the app left behind is ended, and they are
    saved; raises SaveFailed, StillRunning."""
    if config is None:
        yield ""
        return
    tenant = config.tenants[ALONE]
    store = store_of(config.storage, os.environ, log=log)
    records = Records(Path(config.server.data))
    vault = DatabaseService(store, config.storage, log, _expand, streams_of(config, store, os.environ, records, log))
    launcher = Launcher(log, Cgroups(None), Path(config.server.data))
    owning = DaemonLeases(config, os.environ, log, vault, launcher.deadline)
    try:
        await end_leftovers(Path(config.server.data), log)
        if store is not None:
            await _opened(store, owning, tenant.app.start_timeout, log)
        async with _owned(owning, tenant, log) as owned, vault.hold(tenant, owned):
            launcher.open()
            others = {process.pid for process in _children()}  # litestream; and whoever became us by exec had some
            with records.starting(tenant.address, mark := secrets.token_hex(8), ""):
                launcher.adopt(Target(os.getpid(), _started(), mark, spared=others))
                try:
                    yield mark
                finally:
                    spared = {*others, *filter(None, [launcher.pid])}  # it may be another than before
                    await _end_the_rest(spared, tenant.app.stop_grace, log)
                    launcher.drop(mark, "")
    finally:
        await launcher.close()
        await vault.still()
        await owning.leave()
        await asyncio.to_thread(partial(_close, vault, owning, store))  # it waits for threads


async def _opened(store: OwnedStore, owning: DaemonLeases, patience: float, log: Log) -> None:
    """The store may be away when a machine boots: it is tried again for ``patience`` seconds.

    Raises StoreRefused, StoreUnavailable."""
    clock, failures = asyncio.get_running_loop().time, 0
    until = clock() + patience
    while True:
        try:
            await owning.open()
            await store.open()
            return await store.check()
        except StoreUnavailable as error:
            failures += 1
            pause = backoff.delay(failures, first=0.5, most=5.0)
            if isinstance(error, StoreRefused) or clock() + pause > until:
                raise
            log.event("warning", "the store is away: the app waits for it", reason=str(error))
        await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def _owned(owning: DaemonLeases, tenant: Tenant, log: Log) -> AsyncIterator[Lease]:
    """At a deploy the former machine may still be saving: it is waited for, ``start_timeout`` at most.

    Raises HeldElsewhere, OwnershipUnknown."""
    clock, told = asyncio.get_running_loop().time, False
    until = clock() + tenant.app.start_timeout
    while True:
        try:
            async with contextlib.AsyncExitStack() as taken:
                owned = await taken.enter_async_context(owning.hold(tenant))
                held = taken.pop_all()
            break
        except (HeldElsewhere, OwnershipUnknown) as error:
            if clock() > until:
                raise
            if not told:
                log.event("info", "the databases are not free yet: waiting", reason=str(error))
            told = True
            await asyncio.sleep(OWNER_PAUSE)
    async with held:
        yield owned


def _expand(text: str, tenant: Tenant) -> str:
    return launch_plan.expand(text, launch_plan.words(tenant, 0), os.environ)


def _close(vault: DatabaseService, owning: DaemonLeases, store: OwnedStore | None) -> None:
    vault.close()
    owning.close()
    if store is not None:
        store.close()


def _children() -> list[proc.Process]:
    """Our own, and the orphans that we have adopted."""
    me = os.getpid()
    return [process for process in proc.scan() if process.parent == me and not process.ended]


async def _end_the_rest(spared: set[int], grace: float, log: Log) -> None:
    """The app has ended, and what it started may still write: SIGTERM, then SIGKILL. As a subreaper we are the root of
    all that it has started. Raises StillRunning."""
    target = Target(os.getpid(), _started(), "", spared=spared)

    def gone() -> bool:
        return not target.find() and not target.find()

    needed = await termination.end(target, leader=0, led=bool, gone=gone, grace=grace, hurry=bool)
    if needed is termination.Needed.MORE:
        left = "; ".join(map(describe, target.find()))
        log.event("error", "the app left a process that survives SIGKILL: its databases may be written", left=left)
        raise StillRunning(f"what the app left cannot be ended: {left}. Its databases may still be written")


def _started() -> int:
    itself = proc.find(os.getpid())
    assert itself is not None
    return itself.started
