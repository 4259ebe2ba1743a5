"""Facade of the databases of tenants: restore, hold, save, history, orphaned copies."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path

from msgspec import structs

from flyatc.config.schema import Storage, Tenant
from flyatc.databases import database_patterns, links, local_files, orphaned_copies, restore, rollback, trial
from flyatc.databases.app_files import facade, opening
from flyatc.databases.app_files.folder import SavedFolder
from flyatc.databases.autosave import AutoSaver, Unstored
from flyatc.databases.database import Database
from flyatc.databases.databases_in_use import Held, HeldDatabases
from flyatc.databases.decisions import inventory
from flyatc.databases.decisions.version_choice import Choice
from flyatc.databases.litestream.backend import LitestreamBackend
from flyatc.databases.litestream.replica_restore import newest
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry
from flyatc.databases.remote import Version, in_time
from flyatc.databases.workers import SENDING_SECONDS, Workers
from flyatc.kit.errors import RestoreRefused, StillRunning
from flyatc.kit.types import Progress
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log
from flyatc.ownership.lease import Lease, SoleLease

DAMAGED = "the record of the local databases is damaged: nothing is known of them"


class DatabaseService:
    """``store`` None: storage.mode none, only the local folder. ``expand`` fills the placeholders of ``seed``."""

    def __init__(
        self,
        store: ObjectStore | None,
        storage: Storage,
        log: Log,
        expand: Callable[[str, Tenant], str],
        streams: Callable[[Workers], LitestreamBackend] | None = None,
    ) -> None:
        """``streams``: creates the litestream backend; None: snapshots."""
        self._store, self._storage, self._log, self._expand = store, storage, log, expand
        self._tools = Workers(storage.keep, log, storage.key)
        self.streams = streams(self._tools) if streams is not None else None
        self.held = HeldDatabases(store)
        self.last_saved: dict[str, float] = {}  # Unix time by tenant, of those that ``unsaved`` looked at

    @contextlib.asynccontextmanager
    async def hold(self, tenant: Tenant, lease: Lease | None = None) -> AsyncIterator[Held]:
        """Entry: every database is the store's current version, or newer. Raises RestoreRefused; then none was changed.
        Exit: saved and confirmed, also when cancelled. Raises SaveFailed; then the local copy is kept, on record.
        ``lease`` None: no other machine uses the store."""
        with self.held.exclusively(tenant):
            lease = lease or SoleLease()
            tenant = await self._expanded(tenant)
            await self._undo_trial(tenant)
            held = await self._take(tenant, lease)
            self.held.register(tenant, held)
            try:
                yield held
            except StillRunning as error:
                await self._leave_in_use(tenant, held, lease, str(error))
                raise
            except BaseException:
                await self._leave(tenant, held)
                raise
            await self._leave(tenant, held)

    async def _undo_trial(self, tenant: Tenant) -> None:
        """Set aside what an unfinished trial has changed. Raises RestoreRefused."""
        note = await self._tools.quick.run(partial(trial.read, tenant))
        if note is None or note.done or note.keep:
            return
        with restore.refusing(tenant):
            record, why = await self._record(tenant), "a command of flyatc exec did not succeed"
            await self._set_aside(tenant, record, {*facade.names(tenant), *record.names}, why)
            await self._tools.quick.run(partial(trial.remove, tenant))

    async def mark_in_use(self, tenant: Tenant) -> None:
        """Record that the local copies may be newer than the store. Raises OSError, RestoreRefused."""
        if self._store is not None:
            tenant = await self._expanded(tenant)
            record = await self._record(tenant)
            names = [name for name in facade.names(tenant) if record.get(name) is not None]
            await record.put({name: structs.replace(record.get(name) or Entry(), in_use=True) for name in names})

    async def _leave_in_use(self, tenant: Tenant, held: Held, lease: Lease, why: str) -> None:
        """Save while a process may still write: later writes would be unsaved, so the record keeps ``in_use``."""
        try:
            await self._leave(tenant, held)
        finally:
            lease.mark_dirty(why, tenant.address)
            await self.mark_in_use(tenant)

    async def _leave(self, tenant: Tenant, held: Held) -> None:
        self.held.register(tenant, None)
        await held.leave()

    async def _take(self, tenant: Tenant, lease: Lease) -> Held:
        seeds = partial(self._seed, tenant)
        with restore.refusing(tenant):
            await self._tools.quick.run(partial(links.prepare, tenant.data, tenant.app.databases))
            if self._store is None:
                await restore.make_local(tenant, seeds, self._tools)
                await opening.make_local(tenant, seeds, self._storage, self._tools)
                return Unstored(tenant)
            record = await self._record(tenant)
            held = await self._take_databases(tenant, record, lease, self._store, seeds)
            folders = self._folders(tenant, record, lease)
            return await facade.take(tenant, held, folders, record, lease, seeds, self._tools, self._storage.interval)

    async def _take_databases(
        self, tenant: Tenant, record: Record, lease: Lease, store: ObjectStore, seeds: restore.Seeds
    ) -> AutoSaver | Replication:
        if self.streams is not None:
            return await self.streams.take(tenant, record, lease, seeds)
        databases = [self._database(tenant, name, record, lease) for name in tenant.app.databases]
        await restore.make_whole(tenant, databases, record, seeds, partial(newest, store), self._tools)
        interval = 0 if tenant.app.files else self._storage.interval
        return AutoSaver(tenant, databases, record, lease, self._tools, interval)

    async def history(self, tenant: Tenant, database: str | None = None) -> list[Version]:
        """Return the store's versions by database and folder, newest first. Raises RestoreRefused if it does not
        answer."""
        tenant = await self._expanded(tenant)
        with restore.refusing(tenant):
            record = await self._record(tenant)
            chosen = self._chosen(tenant, database, record, SoleLease())
            versions = {one.name: await one.remote.versions() for one in chosen}
            if self.streams is not None:
                for span in await self.streams.history(tenant, record, SoleLease(), database):
                    saved = Version(span.database, span.line, span.until, None, span.size, current=False)
                    versions[span.database].append(saved)
                versions = {name: found if name.endswith("/") else in_time(found) for name, found in versions.items()}
            return [version for found in versions.values() for version in found]

    async def restore(
        self, tenant: Tenant, database: str | None, choice: Choice, progress: Progress, lease: Lease | None = None
    ) -> list[str]:
        """Replace the local copy of a database or a folder (None: of all) by the chosen version, and save that as a new
        version. The tenant is stopped. Return sentences on the folders. Raises RestoreRefused (nothing was changed),
        SaveFailed."""
        tenant = await self._expanded(tenant)
        with self.held.exclusively(tenant):
            lease = lease or SoleLease()
            with restore.refusing(tenant):
                await self._tools.quick.run(partial(links.prepare, tenant.data, tenant.app.databases))
                await self._undo_trial(tenant)
                record = await self._record(tenant)
                chosen = self._chosen(tenant, database, record, lease)
                roll_back = partial(self._roll_back, tenant, choice, record, lease, progress)
                return await facade.restore(tenant, database, chosen, choice, record, lease, self._tools, roll_back)

    async def _roll_back(
        self,
        tenant: Tenant,
        choice: Choice,
        record: Record,
        lease: Lease,
        progress: Progress,
        databases: list[Database],
    ) -> AutoSaver | Replication:
        if self.streams is not None and databases:
            names = [one.name for one in databases]
            return await self.streams.roll_back(tenant, record, lease, names, choice, progress)
        await rollback.roll_back(choice, tenant, databases, record, self._tools, progress)
        return AutoSaver(tenant, databases, record, lease, self._tools, interval=0)

    async def copy(self, tenant: Tenant, data: Path) -> None:
        """Copy the newest versions in the store into ``data``, an empty folder. The store is only read. Raises
        RestoreRefused."""
        if self._store is None:
            raise RestoreRefused("storage.mode is none: nothing is in a store that could be copied")
        copied = structs.replace(tenant, data=data)
        with restore.refusing(tenant):
            there = inventory.take(await self._store.list(f"{inventory.folder(tenant.user)}{tenant.key}/"))
            record = await self._record(copied)
            databases = [self._database(copied, one.database, record, SoleLease()) for one in there.databases]
            await rollback.copy_newest(databases, data / ".flyatc", self.streams, self._tools)

    async def export(self, tenant: Tenant, name: str, choice: Choice, place: Path, progress: Progress) -> Path:
        """Make a checked copy of a database below ``place``: of the local file of a running app, else of the chosen
        version. Nothing else is changed. Raises RestoreRefused."""
        tenant = await self._expanded(tenant)
        if name not in tenant.app.databases:
            there = ", ".join(tenant.app.databases) or "none"
            raise RestoreRefused(f"{tenant.address} has no database {name!r}; it has {there}")
        with restore.refusing(tenant):
            running = tenant.address in self.held.running()
            if choice is None and (self._store is None or running):
                return await rollback.copy_local(tenant, name, place, self._tools, progress, keep_wal=running)
            database = self._database(tenant, name, await self._record(tenant), SoleLease())
            return await rollback.copy_chosen(database, choice, place, self.streams, self._tools, progress)

    async def known(self, tenants: Iterable[Tenant]) -> int:
        """Return the highest epoch in their local records; 0: none."""
        highest = 0
        for tenant in tenants:
            with contextlib.suppress(OSError):  # reported by its hold
                record = await Record.read(tenant.data / ".flyatc", self._tools.quick)
                highest = max(highest, record.epoch)
        return highest

    async def forget(self, tenant: Tenant, lease: Lease) -> bool:
        """If the app has written nothing, remove its local folder and its objects in the store. Return whether nothing
        is left of it. Raises StoreUnavailable, ConditionFailed, OSError; then something may be left."""
        if self.holds(tenant):
            return False
        tenant = await self._expanded(tenant)
        with self.held.exclusively(tenant):
            record = await self._record(tenant)
            if any((record.get(name) or Entry()).known for name in record.names):
                return False
            if not await self._tools.quick.run(partial(local_files.unwritten, tenant.data)):
                return False
            for name in {*facade.names(tenant), *record.names} if self._store is not None else ():
                if not await self._database(tenant, name, record, lease).remote.clear(lease.epoch):
                    return False
            await self._tools.quick.run(partial(local_files.remove_tenant, tenant.data))
        return True

    def holds(self, tenant: Tenant) -> bool:
        """Return whether its databases are being restored, held, or saved."""
        return tenant in self.held

    def hear_failures(self, failures: Callable[[str], int]) -> None:
        """Set ``failures``, which counts the 5xx responses of the app at an address so far."""
        self._tools.failures = failures

    async def unsaved(self, tenants: Iterable[Tenant]) -> list[Tenant]:
        """Return the tenants whose local copy may be newer than the store, by their records. A hold saves it."""
        found = []
        for tenant in tenants if self._store is not None else ():
            try:
                record = await self._record(tenant)
            except OSError:  # reported by its hold
                found.append(tenant)
                continue
            if record.saved_at is not None:
                self.last_saved[tenant.address] = record.saved_at
            found += [tenant] if record.in_use else []
        return found

    async def orphans(self, tenant: Tenant) -> list[Path]:
        """Return the folders of orphaned copies, oldest first. flyatc never removes them."""
        return await self._tools.quick.run(partial(local_files.orphans, tenant.data / ".flyatc"))

    async def give_up(self, tenant: Tenant, since: int, reason: str) -> bool:
        """Set aside unsaved local copies from before epoch ``since``, when another machine acquired the user: they
        belong to no history. Return whether nothing unsaved is left; False also while it is held. Raises OSError."""
        if self._store is None or self.holds(tenant):
            return False
        with self.held.exclusively(tenant):
            record = await self._record(tenant)
            if not 0 < record.epoch < since:
                return not record.in_use
            await self._set_aside(tenant, record, record.names, reason)
        return True

    async def _set_aside(self, tenant: Tenant, record: Record, names: Iterable[str], reason: str) -> None:
        """Set aside the local copies with changes that the store lacks. Raises OSError."""
        for name in names:
            database = self._database(tenant, name, record, SoleLease())
            if isinstance(database, SavedFolder):
                await facade.give_up(database, reason)
            elif database.unsaved:
                await orphaned_copies.set_aside(database, self._tools, reason)
                await database.note(Entry())
        await record.put({name: structs.replace(record.get(name) or Entry(), in_use=False) for name in record.names})

    async def send_orphans(self, tenants: Iterable[Tenant]) -> None:
        """Upload the orphaned copies of earlier runs that are not in the store yet, in the background."""
        for tenant in tenants if self._store is not None else ():
            with contextlib.suppress(OSError):  # reported by flyatc orphans
                record = await self._record(tenant)
                for one in await self._tools.quick.run(partial(orphaned_copies.folders, tenant.data / ".flyatc")):
                    known = dict.fromkeys([*facade.names(tenant), *record.names])
                    names = [name for name in known if f"/{name}".endswith(f"/{one.file}")]
                    if names and orphaned_copies.unsent(one.path):
                        orphaned_copies.send(
                            self._database(tenant, names[0], record, SoleLease()), one.path, self._tools
                        )

    async def stranded(self, tenants: Iterable[Tenant]) -> list[Path]:
        """Return the orphaned copies that exist on this machine only. Raises OSError."""
        found = []
        for tenant in tenants if self._store is not None else ():
            here = await self._tools.quick.run(partial(orphaned_copies.folders, tenant.data / ".flyatc"))
            found += [one.path for one in here if orphaned_copies.unsent(one.path)]
        return found

    async def sent(self, patience: float = SENDING_SECONDS) -> None:
        """Wait for the uploads of orphaned copies, ``patience`` seconds at most."""
        await self._tools.sent(patience)

    async def still(self) -> None:
        """Stop uploads and litestream. Nothing is held any more."""
        await self.sent()
        if self.streams is not None:
            await self.streams.close()

    def close(self) -> None:
        """Stop the threads. Nothing is held any more; the caller closes the store."""
        self._tools.close()

    async def _expanded(self, tenant: Tenant) -> Tenant:
        """Return the tenant with the databases that its patterns match. Raises RestoreRefused."""
        if not tenant.patterns:
            return tenant
        with restore.refusing(tenant):
            return await database_patterns.expanded(tenant, await self._record(tenant), self._store, self._tools)

    async def _record(self, tenant: Tenant) -> Record:
        record = await Record.read(tenant.data / ".flyatc", self._tools.quick)
        if record.damaged:
            self._log.event("warning", DAMAGED, tenant=tenant.address)
        return record

    def _database(self, tenant: Tenant, name: str, record: Record, lease: Lease) -> Database:
        """``name``: with a slash at its end it is a folder of files."""
        if self._store is None:
            raise RestoreRefused("storage.mode is none: there is no history, and nothing to restore from")
        if name.endswith("/"):
            return SavedFolder(tenant, name, record, self._store, lease, self._tools, self._storage)
        return Database(tenant, name, record, self._store, lease, self._tools)

    def _chosen(self, tenant: Tenant, name: str | None, record: Record, lease: Lease) -> list[Database]:
        there = facade.names(tenant)
        if name is not None and name not in there and f"{name}/" in there:
            name = f"{name}/"
        if name is not None and name not in there:
            raise RestoreRefused(f"{tenant.address} has no database {name!r}; it has {', '.join(there) or 'none'}")
        return [self._database(tenant, n, record, lease) for n in there if name in (None, n)]

    def _folders(self, tenant: Tenant, record: Record, lease: Lease) -> list[SavedFolder]:
        made = [self._database(tenant, f"{name}/", record, lease) for name in tenant.app.files]
        return [one for one in made if isinstance(one, SavedFolder)]

    def _seed(self, tenant: Tenant, database: str) -> Path | None:
        seed = tenant.app.seed
        if database.endswith("/") and not isinstance(seed, dict):
            return None
        text = seed.get(database.removesuffix("/")) if isinstance(seed, dict) else seed
        return None if text is None else Path(self._expand(text, tenant))
