"""Facade of litestream mode: restore and stream a tenant's databases; history and rollback."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flyatc.config.schema import Storage, Tenant
from flyatc.databases.database import Database
from flyatc.databases.litestream import prepare, rollback
from flyatc.databases.litestream.daemon import LitestreamDaemon, Run
from flyatc.databases.litestream.replica_layout import Addresses
from flyatc.databases.litestream.replica_restore import LitestreamContext, listed
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.local_record import Record
from flyatc.databases.restore import Seeds
from flyatc.databases.version_choice import Choice
from flyatc.databases.workers import Workers
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
    octets: int  # in the store


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

    @property
    def engine(self) -> LitestreamDaemon:
        return self._context.engine

    async def take(self, tenant: Tenant, record: Record, lease: Lease, seeds: Seeds) -> Replication:
        """Restore and attach; the tenant's folder is prepared. Always call ``leave`` when the app has ended.

        Raises RestoreRefused (then nothing was changed, or what was is on record); StoreUnavailable, OSError."""
        databases = [self._database(tenant, name, record, lease) for name in tenant.app.databases]
        streams = await prepare.make_whole(tenant, databases, record, seeds, self._context)
        return Replication(tenant, streams, record, lease, self._context)

    async def history(self, tenant: Tenant, record: Record, lease: Lease, only: str | None = None) -> list[Span]:
        """Return the lines by database, newest first. Raises StoreUnavailable."""
        spans = []
        for name in tenant.app.databases:
            if only in (None, name):
                found = await listed(self._database(tenant, name, record, lease), self._context.store)
                spans += [
                    Span(name, line.name, line.since, line.until, line.txid, line.octets)
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
        marked = await rollback.rewind(databases, choice, record, self._context, progress)
        return Replication(tenant, await prepare.attach(databases, self._context, marked), record, lease, self._context)

    async def close(self) -> None:
        await self._context.engine.close()

    # --- parts ---

    def _database(self, tenant: Tenant, name: str, record: Record, lease: Lease) -> Database:
        return Database(tenant, name, record, self._context.store, lease, self._context.tools)
