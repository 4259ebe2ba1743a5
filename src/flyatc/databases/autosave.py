"""Periodic, on-demand and final saves of the databases of one running tenant."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from time import time
from typing import Any

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import local_files, orphaned_copies, restore
from flyatc.databases.database import Database
from flyatc.databases.decisions import alarms
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import CopyLost, SaveFailed
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import ObjectStore
from flyatc.ownership.lease import Lease

DELETED = "its folder was deleted while it was in use: what was not saved is lost. It goes on from the store"


class AutoSaver:
    def __init__(
        self, tenant: Tenant, databases: list[Database], record: Record, lease: Lease, tools: Workers, interval: float
    ) -> None:
        self._tools = tools
        self._tenant, self.databases, self._record, self._lease = tenant, databases, record, lease
        self._leaving, self._since = asyncio.Event(), time()
        self._rounds = (
            tasks.start(save_repeatedly(self._save_unsaved, interval, self._leaving), f"saves {tenant.address}")
            if interval
            else None
        )

    @property
    def unsaved(self) -> bool:
        return any(database.unsaved for database in self.databases)

    @property
    def saved_at(self) -> float | None:
        return max((d.entry.saved_at for d in self.databases if d.entry.saved_at is not None), default=None)

    @property
    def changed(self) -> tuple[str, float] | None:
        """Name and Unix time of the last change of a database by its app."""
        return max(((d.name, d.changed) for d in self.databases), key=lambda one: one[1], default=None)

    @property
    def lag(self) -> float:
        """Seconds since the store had everything; 0: it has everything now."""
        return max(0.0, time() - (self.saved_at or self._since)) if self.unsaved else 0.0

    @property
    def alarms(self) -> list[str]:
        large = [(d.name, size) for d in self.databases if (size := local_files.wal_size(d.path)) > alarms.LARGE_WAL]
        return [
            *(f"{name}: {alarms.large_wal(size)}" for name, size in large),
            *(database.failure for database in self.databases if database.failure),
        ]

    @property
    def expected(self) -> dict[str, str]:
        """See ``DatabaseService.expected``."""
        return {d.name: "snapshot" for d in self.databases if d.entry.base is not None}

    @property
    def gauges(self) -> dict[str, float]:
        return {"wal_bytes": float(max((local_files.wal_size(d.path) for d in self.databases), default=0))}

    @property
    def size(self) -> int:
        return sum(local_files.size(d.path) for d in self.databases if d.path.exists())

    @property
    def renewed(self) -> dict[str, str]:
        return {}

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Save now. Cannot be cancelled once started: a cancelled caller waits for its end. Raises SaveFailed."""
        chosen = [d for d in self.databases if only in (None, d.name)]
        if not chosen and only is not None:
            raise SaveFailed(f"{self._tenant.address} has no database {only!r}")
        await tasks.to_the_end(tasks.start(_save(chosen, progress), f"save {self._tenant.address}"))

    async def include(self, name: str, store: ObjectStore) -> Database:
        """Save a database that the app has just made, from now on. Raises RestoreRefused, StoreUnavailable, OSError."""
        database = Database(self._tenant, name, self._record, store, self._lease, self._tools)
        await restore.refuse_known(database)
        await restore.take_over(database)
        await database.note(Entry(in_use=True, epoch=self._lease.epoch))
        self.databases.append(database)
        return database

    async def heal(self, name: str, kind: str, reason: str) -> bool:
        """Replace a damaged copy in the store by a new one of the local file. False: not possible here. Raises
        SaveFailed."""
        database = next((d for d in self.databases if d.name == name), None)
        if database is None or kind != "snapshot":
            return False
        await tasks.to_the_end(tasks.start(database.save(silent, anew=True), f"save {database} anew"))
        return True

    async def leave(self) -> None:
        """Make the final save after the app has ended. On record only when confirmed. Raises SaveFailed."""
        await tasks.to_the_end(tasks.start(self._leave(), f"last save {self._tenant.address}"))

    async def _leave(self) -> None:
        self._leaving.set()
        if self._rounds is not None:
            await asyncio.wait([self._rounds])
        try:
            if self._record.deleted and self.databases:
                raise CopyLost(f"{self._tenant.address}: {DELETED}")
            if self._lease.lost:
                for database in (one for one in self.databases if one.unsaved):
                    await set_aside(database, self._tools, self._lease.why)
            elif self._lease.ended.is_set():
                self._keep()
            else:
                await _save(self.databases, silent)
        except SaveFailed as error:
            self._lease.mark_dirty(str(error), self._tenant.address)
            raise
        else:
            self._lease.mark_saved(self._tenant.address)
        finally:
            if not (self._record.deleted and self.databases):
                saved = {d.name: structs.replace(d.entry, in_use=False) for d in self.databases if not d.failed}
                await put_saved(saved, self._tenant, self._record)

    def _keep(self) -> None:
        """Keep the local copies: the lease has ended. Raises SaveFailed if something is unsaved."""
        left = [database for database in self.databases if database.unsaved]
        for database in left:
            database.failed = True
        if left:
            raise SaveFailed(f"{', '.join(map(str, left))}: {self._lease.why}. The local copy is kept")

    async def _save_unsaved(self) -> None:
        await _save([d for d in self.databases if d.unsaved], silent)


async def save_repeatedly(save: Callable[[], Awaitable[object]], interval: float, leaving: asyncio.Event) -> None:
    """Save every ``interval`` seconds until ``leaving`` is set, which also ends the wait."""
    while not leaving.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await leaving.wait()
            return
        with contextlib.suppress(SaveFailed):  # logged by the save; the next round tries again
            await save()


async def _save(databases: Iterable[Database], progress: Progress) -> None:
    await save_all((database, database.save(progress)) for database in databases)


async def save_all(work: Iterable[tuple[object, Coroutine[Any, Any, None]]]) -> None:
    """Do all of ``work``, by the name of its database, even if one fails. Raises SaveFailed with all the errors."""
    started = [tasks.start(one, f"save {database}") for database, one in work]
    results = await asyncio.gather(*started, return_exceptions=True)
    failed = [result for result in results if isinstance(result, SaveFailed)]
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, SaveFailed):
            raise result
    if failed:
        raise SaveFailed("; ".join(str(error) for error in failed)) from failed[0]


async def set_aside(database: Database, tools: Workers, why: str) -> None:
    """Set aside an unsaved copy: another machine may have written since. Raises SaveFailed."""
    try:
        await orphaned_copies.set_aside(database, tools, why)
    except OSError as error:
        raise SaveFailed(f"{database}: the unsaved copy cannot be set aside: {error}") from error


async def put_saved(saved: dict[str, Entry], tenant: Tenant, record: Record) -> None:
    """Write the entries of saved databases. If that fails, the next start saves them again. Raises SaveFailed."""
    try:
        await record.put(saved)
    except OSError as error:
        raise SaveFailed(f"{tenant.address}: saved, but the record cannot be written: {error}") from error


class Unstored:
    """Stand-in for storage.mode none: there is only the local folder."""

    unsaved = False
    saved_at = None
    lag, size = 0.0, 0

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    @property
    def changed(self) -> tuple[str, float] | None:
        found = []
        for name in self._tenant.app.databases:
            with contextlib.suppress(OSError):
                found.append((name, local_files.newest_past(local_files.signature(self._tenant.data / name))))
        return max(found, key=lambda one: one[1], default=None)

    @property
    def alarms(self) -> list[str]:
        return []

    @property
    def expected(self) -> dict[str, str]:
        return {}

    @property
    def gauges(self) -> dict[str, float]:
        return {}

    @property
    def renewed(self) -> dict[str, str]:
        return {}

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Do nothing: there is no store."""

    async def heal(self, name: str, kind: str, reason: str) -> bool:
        return False

    async def leave(self) -> None:
        """Do nothing: there is no store."""
