"""What operators may ask of a running daemon (control.ports.Operations)."""

import os
from dataclasses import asdict
from time import time
from typing import Protocol

from msgspec import structs

from flyatc import __version__
from flyatc.config import changes
from flyatc.config.schema import Config
from flyatc.control import answers, explain
from flyatc.daemon.parts import Parts
from flyatc.kit.errors import FlyatcError
from flyatc.kit.progress import Progress
from flyatc.observe.journal import Journal
from flyatc.observe.log import stamp
from flyatc.observe.metrics import Counters


class Host(Protocol):
    """The running daemon."""

    config: Config
    stopping: bool

    def reload(self) -> changes.Changes: ...

    def idle_exit_at(self) -> float | None: ...


class Operations:
    def __init__(self, daemon: Host, parts: Parts) -> None:
        self._daemon, self._parts = daemon, parts
        self._started = stamp(time())

    @property
    def journal(self) -> Journal:
        return self._parts.log.journal

    @property
    def counters(self) -> Counters:
        counters, cache = self._parts.recorder.counters, self._parts.cache
        if cache is not None:
            counters.cache = asdict(cache.counts) | {"evicted": cache.evicted}
            counters.cache_octets, counters.cache_entries = cache.octets, cache.entries
        return counters

    @property
    def stopping(self) -> bool:
        return self._daemon.stopping

    def status(self) -> answers.Overview:
        config = self._daemon.config
        tenants = self._parts.fleet.status()
        exit_at = self._daemon.idle_exit_at()
        return answers.Overview(
            tenants=tenants,
            daemon=answers.Daemon(
                version=__version__,
                pid=os.getpid(),
                started=self._started,
                listen=f"{config.server.listen.host or '*'}:{self._parts.listener.port}",
                config=str(config.path),
                running=sum(one.pid is not None for one in tenants),
                limit=config.limits.running,
                idle_exit_at=None if exit_at is None else stamp(exit_at),
            ),
        )

    def explain(self, url: str) -> answers.Explanation:
        told = explain.explain(self._daemon.config, self._parts.handler.routes, url)
        if told.user is None or told.name is None:
            return told
        tenant = self._parts.fleet.find(told.user, told.name)
        return structs.replace(told, state=None if tenant is None else str(tenant.status().state))

    async def start(self, address: str) -> None:
        await self._parts.fleet.start(address)

    async def stop(self, address: str) -> None:
        await self._parts.fleet.stop(address)

    async def restart(self, address: str) -> None:
        await self._parts.fleet.restart(address)

    async def reload(self) -> answers.Reloaded:
        found = self._daemon.reload()
        return answers.Reloaded(
            added=list(found.added),
            removed=list(found.removed),
            changed=list(found.changed),
            restart=list(found.restart),
        )

    async def maintain(self, address: str | None, message: str | None, *, closed: bool) -> bool:
        if address is not None:
            self._parts.fleet.select(address)
        try:
            if not closed:
                return self._parts.maintenance.open(address)
            self._parts.maintenance.close(address, message)
        except OSError as error:
            raise FlyatcError(f"it could not be written down, and so is not done: {error.strerror}") from error
        return True

    async def clear_cache(self, address: str | None) -> int:
        return 0 if self._parts.cache is None else self._parts.cache.clear(address)

    async def backup(self, address: str, database: str | None, progress: Progress) -> None:
        live = self._parts.fleet.databases(address)
        if live is not None:
            await live.save(progress, database)
            return
        async with self._parts.fleet.paused(address):  # stopped and saved: what was left unsaved is saved by that
            pass

    async def restore(self, address: str, database: str | None, version: str | None, progress: Progress) -> None:
        tenant = self._parts.fleet.one(address).spec
        async with self._parts.fleet.paused(address):
            await self._parts.vault.restore(tenant, database, version, progress)

    async def history(self, address: str, database: str | None) -> answers.History:
        tenant = self._parts.fleet.one(address).spec
        versions = await self._parts.vault.history(tenant, database)
        orphans = await self._parts.vault.orphans(tenant)
        return answers.History(
            versions=[
                answers.Version(
                    database=one.database,
                    id=one.id,
                    saved=stamp(one.saved),
                    size=one.size,
                    compressed=one.compressed,
                    current=one.current,
                )
                for one in versions
            ],
            orphans=[str(path) for path in orphans],
        )
