"""The door to litestream mode: a tenant's databases made whole and streaming; their history, and going back in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flyatc.config.schema import Storage, Tenant
from flyatc.databases import attic, files
from flyatc.databases.arrival import Arrival
from flyatc.databases.choosing import Aside
from flyatc.databases.database import Database
from flyatc.databases.lineage import Entry
from flyatc.databases.litestream import lines, opening, restoring
from flyatc.databases.litestream.address import Addresses
from flyatc.databases.litestream.engine import Engine
from flyatc.databases.litestream.means import Means
from flyatc.databases.litestream.ports import Run
from flyatc.databases.litestream.streaming import Streaming
from flyatc.databases.opening import Seeds
from flyatc.databases.owned import Owned
from flyatc.databases.plan import Restore
from flyatc.databases.record import Record
from flyatc.databases.tools import Tools
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.progress import Progress
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log


@dataclass(frozen=True)
class Span:
    """What one line of a database covers: any moment between the two can be gone back to, while litestream keeps it."""

    database: str
    line: str  # "e000005"
    since: float  # Unix time
    until: float
    txid: int
    octets: int  # in the store


class Door:
    """``folder``: of the daemon, for litestream's socket and settings. ``close`` it when nothing is held any more."""

    def __init__(
        self,
        store: ObjectStore,
        storage: Storage,
        environ: Mapping[str, str],
        folder: Path,
        run: Run,
        log: Log,
        tools: Tools,
    ) -> None:
        engine = Engine(folder, storage.litestream, environ, run, log, tools.quick)
        self._means = Means(store, storage, environ, Addresses(storage, environ), engine, run, tools)

    @property
    def engine(self) -> Engine:
        return self._means.engine

    async def take(
        self, tenant: Tenant, record: Record, owned: Owned, seeds: Seeds, hurry: Callable[[], bool] = lambda: False
    ) -> Streaming:
        """The tenant's folder is prepared. To be left, always, when the app has ended.

        Raises RestoreRefused (then nothing was changed, or what was is on record); StoreUnavailable, OSError."""
        databases = [self._database(tenant, name, record, owned) for name in tenant.app.databases]
        streams = await opening.make_whole(tenant, databases, record, seeds, self._means)
        return Streaming(tenant, streams, record, owned, self._means.tools, hurry)

    async def history(self, tenant: Tenant, record: Record, owned: Owned, only: str | None = None) -> list[Span]:
        """Newest first, database by database. Raises StoreUnavailable."""
        spans = []
        for name in tenant.app.databases:
            if only in (None, name):
                found = await opening.listed(self._database(tenant, name, record, owned), self._means)
                spans += [
                    Span(name, lines.folder(line.number), line.since, line.until, line.txid, line.octets)
                    for line in reversed(found.found)
                ]
        return spans

    async def turn_back(
        self,
        tenant: Tenant,
        record: Record,
        owned: Owned,
        chosen: list[str],
        at: float | Aside | None,
        progress: Progress,
    ) -> Streaming:
        """Puts the state of ``at`` (Unix time; None: the last which the store has), or what was set aside, in place of
        the local copies. What stood there is set aside. The tenant is stopped; leave the answer, and it is confirmed in
        the store.

        Raises RestoreRefused (nothing was changed); StoreUnavailable, OSError."""
        databases = [self._database(tenant, name, record, owned) for name in chosen]
        tools = self._means.tools
        async with tools.workplace(tenant.data / ".flyatc", "restore") as place:
            work = [self._bring_back(database, at, place, progress) for database in databases]
            arrivals = await tasks.every(work, "restore")
            put = self._put(databases, arrivals, record, owned)
            await tasks.to_the_end(tasks.start(put, f"settle {tenant.address}"))
        streams = await opening.attach(databases, frozenset(), self._means)
        return Streaming(tenant, streams, record, owned, tools, lambda: False)

    async def close(self) -> None:
        await self._means.engine.close()

    # --- parts ---

    def _database(self, tenant: Tenant, name: str, record: Record, owned: Owned) -> Database:
        return Database(tenant, name, record, self._means.store, owned, self._means.tools)

    async def _bring_back(
        self, database: Database, at: float | Aside | None, place: Path, progress: Progress
    ) -> Arrival:
        if isinstance(at, Aside):
            return await attic.bring(database, at.name, place, self._means.tools, progress)
        found = await opening.listed(database, self._means)
        last = [] if found.last is None else [(found.last, None)]
        for line, moment in last if at is None else lines.at(found, at):
            try:
                return await opening.bring(database, line, moment, place, self._means, progress)
            except restoring.NoSuchTime:
                await self._means.tools.quick.run(partial(files.remove, place / database.name.replace("/", "~")))
        raise RestoreRefused(f"{database}: the store has nothing of it from that time. Nothing was changed")

    async def _put(self, databases: list[Database], arrivals: list[Arrival], record: Record, owned: Owned) -> None:
        for database, arrival in zip(databases, arrivals, strict=True):
            await opening.place_one(database, arrival, Restore("somebody asked for it"), self._means)
        entry = Entry(in_use=True, epoch=owned.epoch, line=owned.line)
        await record.put({database.name: entry for database in databases})
