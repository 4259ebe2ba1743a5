"""Facade of litestream mode: restore and stream a tenant's databases; history and rollback."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flyatc.config.schema import Storage, Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import local_files, manifest, orphaned_copies
from flyatc.databases import restore as snapshots
from flyatc.databases.database import Database
from flyatc.databases.decisions import version_choice as versions
from flyatc.databases.decisions.keep_or_restore import Restore
from flyatc.databases.decisions.version_choice import Choice, Moment, OrphanChoice, Picked
from flyatc.databases.litestream import keep_or_restore, prepare, replica_layout, replica_restore
from flyatc.databases.litestream.daemon import LitestreamDaemon, Run
from flyatc.databases.litestream.replica_layout import Addresses, Lines
from flyatc.databases.litestream.replica_restore import LitestreamContext, listed
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer
from flyatc.databases.remote import Current
from flyatc.databases.restore import Seeds
from flyatc.databases.transfer import Restored
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import Progress
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log
from flyatc.ownership.lease import Lease


@dataclass(frozen=True)
class Span:
    """The time that one line covers: any moment in it can be restored, as long as litestream keeps it."""

    database: str
    line: str  # "e000005"
    since: float  # Unix time
    until: float
    txid: int
    size: int  # in the store


class LitestreamBackend:
    """``folder``: the daemon's, for litestream's socket and settings. Call ``close`` when nothing is held any more."""

    def __init__(
        self,
        store: ObjectStore,
        storage: Storage,
        environ: Mapping[str, str],
        folder: Path,
        run: Run,
        log: Log,
        tools: Workers,
    ) -> None:
        engine = LitestreamDaemon(folder, storage.litestream, environ, run, log, tools.quick)
        self._context = LitestreamContext(store, storage, environ, Addresses(storage, environ), engine, run, tools)

    def expect(self) -> None:
        """Begin to start litestream: databases are taken soon."""
        tasks.start(prepare.begin(self._context), "start of litestream")

    @property
    def engine(self) -> LitestreamDaemon:
        return self._context.engine

    async def take(self, tenant: Tenant, record: Record, lease: Lease, seeds: Seeds) -> Replication:
        """Restore and attach; the tenant's folder is prepared. Always call ``leave`` when the app has ended.

        Raises RestoreRefused (then nothing was changed, or what was is on record); StoreUnavailable, OSError; and
        SaveFailed, if it is cancelled as it attaches."""
        databases = [self._database(tenant, name, record, lease) for name in tenant.app.databases]
        marked = await prepare.make_whole(tenant, databases, record, seeds, self._context)
        attaching = tasks.start(prepare.attach(databases, self._context, marked), f"attach {tenant.address}")
        try:
            return Replication(tenant, await tasks.to_the_end(attaching), record, lease, self._context)
        except asyncio.CancelledError:
            if attaching.exception() is None:  # litestream has had them, so only a last save shows that all is saved
                await Replication(tenant, attaching.result(), record, lease, self._context).leave()
            raise

    async def history(self, tenant: Tenant, record: Record, lease: Lease, only: str | None = None) -> list[Span]:
        """Return the lines by database, newest first. Raises StoreUnavailable."""
        spans = []
        for name in tenant.app.databases:
            if only in (None, name):
                found = await listed(self._database(tenant, name, record, lease), self._context.store)
                spans += [
                    Span(name, line.name, line.since, line.until, line.txid, line.size)
                    for line in reversed(found.found)
                ]
        return spans

    async def roll_back(
        self,
        tenant: Tenant,
        record: Record,
        lease: Lease,
        names: list[str],
        choice: Choice,
        progress: Progress,
    ) -> Replication:
        """Replace the local copies by the chosen state, and set the old ones aside. The tenant is stopped. Call
        ``leave`` on the result to confirm it in the store.

        Raises RestoreRefused (nothing was changed); StoreUnavailable, OSError."""
        databases = [self._database(tenant, name, record, lease) for name in names]
        marked = await rewind(databases, choice, record, self._context, progress)
        return Replication(tenant, await prepare.attach(databases, self._context, marked), record, lease, self._context)

    async def fetch(self, database: Database, choice: Choice, place: Path, progress: Progress) -> Restored:
        """Fetch the chosen content below ``place``. The store is only read. Raises RestoreRefused, StoreUnavailable,
        OSError."""
        found, current = await listed(database, self._context.store), await database.remote.current()
        return await _bring(_There(database, found, current), choice, place, self._context, progress)

    async def close(self) -> None:
        await self._context.engine.close()

    # --- parts ---

    def _database(self, tenant: Tenant, name: str, record: Record, lease: Lease) -> Database:
        return Database(tenant, name, record, self._context.store, lease, self._context.tools)


@dataclass(frozen=True)
class _There:
    """Content of the store for one database."""

    database: Database
    found: Lines
    current: Current | None

    @property
    def pointer(self) -> Pointer | None:
        return self.current.pointer if self.current is not None else None


async def rewind(
    databases: list[Database], choice: Choice, record: Record, context: LitestreamContext, progress: Progress
) -> frozenset[str]:
    """Put the chosen state in place, and record it as in use. All are verified before the first is put in place. Return
    the names of those whose current.json says that they are streamed.

    Raises RestoreRefused (nothing was changed), StoreUnavailable, OSError."""
    there = [await _look(database, context) for database in databases]
    async with context.tools.workplace(databases[0].folder, "restore") as place:
        arrivals = (_bring(one, choice, place, context, progress) for one in there)
        await snapshots.put_all(databases[0].tenant, arrivals, lambda found: _put(there, found, record, context))
    return frozenset(one.database.name for one in there if prepare.may_be_streamed(one.current))


async def _look(database: Database, context: LitestreamContext) -> _There:
    found = await listed(database, context.store)
    current = await prepare.take_over(database, found)
    return _There(database, found, current)


async def _bring(
    there: _There, choice: Choice, place: Path, context: LitestreamContext, progress: Progress
) -> Restored:
    database, pointer = there.database, there.pointer
    match choice:
        case None:
            return await _newest(there, place, context, progress)
        case OrphanChoice():
            return await orphaned_copies.bring(database, choice.name, place, context.tools, progress)
        case Moment():
            return await _at(there, choice.at, place, context, progress)
    key = f"{choice}{manifest.SUFFIX}"
    if key not in await database.remote.snapshots():
        raise RestoreRefused(f"{database} has no snapshot {choice!r}: see flyatc history {database.tenant.address}")
    return await snapshots.bring(database, key, pointer, place, context.tools, progress)


async def _newest(there: _There, place: Path, context: LitestreamContext, progress: Progress) -> Restored:
    database, pointer = there.database, there.pointer
    found = keep_or_restore.newest(await prepare.saved_of(database, there.current, context), there.found.last)
    if found is None:
        raise RestoreRefused(f"{database}: the store has nothing of it. Nothing was changed")
    if found.saved is not None and pointer is not None:
        return await snapshots.bring(database, pointer.key, pointer, place, context.tools, progress)
    assert found.line is not None
    return await prepare.bring(database, found.line, None, place, context, progress, pointer)


async def _at(there: _There, moment: float, place: Path, context: LitestreamContext, progress: Progress) -> Restored:
    database, pointer = there.database, there.pointer
    stored = {key: one.modified for key, one in (await database.remote.snapshots()).items()}
    for source in replica_layout.places_at(there.found, versions.saved_versions(pointer, stored), moment):
        if isinstance(source, Picked):
            return await snapshots.bring(database, source.key, pointer, place, context.tools, progress)
        line, time = source
        try:
            return await prepare.bring(database, line, time, place, context, progress, pointer)
        except replica_restore.NoSuchTime:
            await context.tools.quick.run(partial(local_files.remove, place / segment_of(database.name)))
    raise RestoreRefused(f"{database}: the store has nothing of it from that time. Nothing was changed")


async def _put(there: list[_There], arrivals: list[Restored], record: Record, context: LitestreamContext) -> None:
    entries = {}
    for one, arrival in zip(there, arrivals, strict=True):
        database, pointer, renewal = one.database, one.pointer, prepare.renewal_of(one.database, one.found)
        await prepare.place_one(database, arrival, Restore("requested by the operator"), renewal, context)
        entries[database.name] = Entry(
            in_use=True,
            epoch=database.lease.epoch,
            line=database.lease.line_epoch,
            renewal=renewal,
            base=pointer.link if pointer is not None else None,
        )
    await record.put(entries)
