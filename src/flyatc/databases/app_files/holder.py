"""The databases of a tenant together with its folders of files: saved in one order, at the interval and at stop.

A round: note which files are there; save the databases, each of which saves the folders between its copy and its new
version (``Database.beside``); save the folders. After the app has ended nothing changes any more, and the same order
holds. If the files cannot be saved, the databases are saved nevertheless; their new version then names no files.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from time import time

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import autosave, manifest, orphaned_copies
from flyatc.databases.app_files.folder import SavedFolder
from flyatc.databases.app_files.manifest import SUFFIX
from flyatc.databases.app_files.pairing import NOT_SAVED
from flyatc.databases.autosave import AutoSaver
from flyatc.databases.database import Database
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.litestream.stream_or_snapshot import StreamedDatabase
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Position
from flyatc.kit import tasks
from flyatc.kit.errors import CopyLost, SaveFailed
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import ObjectStore, StoreUnavailable
from flyatc.ownership.lease import Lease

KIND = "files"  # of the copies in the store: see verify


class FilesHolder:
    """Has the properties and methods of ``held``, which has the databases. ``interval``: seconds between two rounds; 0:
    only at stop."""

    def __init__(
        self,
        tenant: Tenant,
        held: AutoSaver | Replication,
        folders: Sequence[SavedFolder],
        record: Record,
        lease: Lease,
        interval: float,
        interrupted: str = "",
    ) -> None:
        """``interrupted``: a sentence about a restore that did not end."""
        self.held, self.folders = held, folders
        self._tenant, self._record, self._lease = tenant, record, lease
        self._leaving, self._since, self._still = asyncio.Event(), time(), False
        self._notes: dict[str, str] = {}  # why a folder is not saved
        self._interrupted = [interrupted] if interrupted else []
        for folder in folders:
            folder.unchanged = unchanged(held)
        for database in databases_of(held):
            database.beside = self._beside
        self._rounds = (
            tasks.start(
                autosave.save_repeatedly(partial(self._save, silent), interval, self._leaving),
                f"files of {tenant.address}",
            )
            if interval
            else None
        )

    # --- state ---

    @property
    def unsaved(self) -> bool:
        return self.held.unsaved or self._files_unsaved

    @property
    def _files_unsaved(self) -> bool:
        return any(folder.unsaved for folder in self.folders)

    @property
    def saved_at(self) -> float | None:
        times = [self.held.saved_at, *(folder.entry.saved_at for folder in self.folders)]
        return max((one for one in times if one is not None), default=None)

    @property
    def lag(self) -> float:
        """Seconds since the store had everything; 0: it has everything, as of the last look at the files."""
        behind = [folder for folder in self.folders if folder.unsaved]
        late = [time() - max(self._since, folder.entry.saved_at or 0.0) for folder in behind]
        return max([self.held.lag, *late, 0.0])

    @property
    def alarms(self) -> list[str]:
        found = [sentence for one in self.folders for sentence in (one.skipped, one.relation, one.failure) if sentence]
        return [*self.held.alarms, *found, *self._notes.values(), *self._interrupted]

    @property
    def expected(self) -> dict[str, str]:
        """See ``DatabaseService.expected``."""
        return self.held.expected | {one.name: KIND for one in self.folders if one.entry.base is not None}

    @property
    def changed(self) -> tuple[str, float] | None:
        """Name and Unix time of the last change of a database by its app."""
        return self.held.changed

    @property
    def gauges(self) -> dict[str, float]:
        return self.held.gauges

    @property
    def size(self) -> int:
        return self.held.size + sum(folder.size for folder in self.folders)

    @property
    def renewed(self) -> dict[str, str]:
        return self.held.renewed

    # --- saves ---

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Save now. Cannot be cancelled once started. Raises SaveFailed."""
        names = [folder.name for folder in self.folders]
        if f"{only}{SUFFIX}" in names:
            only = f"{only}{SUFFIX}"
        if only is not None and only not in names:
            return await self.held.save(progress, only)
        await tasks.to_the_end(tasks.start(self._save(progress, only), f"save {self._tenant.address}"))
        return None

    async def include(self, name: str, store: ObjectStore) -> Database:
        """See AutoSaver."""
        database = await self.held.include(name, store)
        database.beside = self._beside
        app = structs.replace(self._tenant.app, databases=[*self._tenant.app.databases, name])
        self._tenant = structs.replace(self._tenant, app=app)
        for folder in self.folders:  # the saves that this database's versions name are kept as well
            folder.tenant = self._tenant
        return database

    async def heal(self, name: str, kind: str, reason: str) -> bool:
        folder = next((one for one in self.folders if one.name == name), None)
        if folder is None or kind != KIND:
            return await self.held.heal(name, kind, reason)
        await tasks.to_the_end(tasks.start(folder.save(silent, anew=True), f"save {folder} anew"))
        return True

    async def leave(self) -> None:
        """Make the final saves after the app has ended. Raises SaveFailed."""
        await tasks.to_the_end(tasks.start(self._leave(), f"last save of {self._tenant.address}"))

    async def _save(self, progress: Progress, only: str | None = None) -> None:
        """One round. Raises SaveFailed with all errors."""
        errors: list[SaveFailed] = []
        if only is None:
            if self.held.unsaved and not self._still:
                with contextlib.suppress(SaveFailed, OSError):  # reported by the save
                    await asyncio.gather(*(folder.remember() for folder in self.folders))
            try:
                await self.held.save(progress)
            except SaveFailed as error:
                errors.append(error)
        if not (errors and _store_is_away(errors[0])):
            errors += await self._save_folders(progress, only)
        for folder in self.folders:
            await folder.forget()
        if errors:
            raise SaveFailed("; ".join(str(error) for error in errors)) from errors[0]

    async def _save_folders(self, progress: Progress, only: str | None = None) -> list[SaveFailed]:
        errors = []
        for folder in self.folders:
            if only in (None, folder.name):
                try:
                    await folder.save(progress)
                    self._notes.pop(folder.name, None)
                except SaveFailed as error:
                    self._notes[folder.name] = str(error)
                    errors.append(error)
        return errors

    async def _beside(self) -> dict[str, str]:
        """Save the folders after a database was copied; return their versions."""
        if not self._lease.valid():
            return {}
        for folder in self.folders:
            folder.paired = True
        try:
            await self._save_folders(silent)
        finally:
            for folder in self.folders:
                folder.paired = False
        named = {one.name: manifest.version(one.entry.base.key) for one in self.folders if one.entry.base is not None}
        return named | {one.name: NOT_SAVED for one in self.folders if one.name in self._notes}

    # --- the end ---

    async def _leave(self) -> None:
        self._leaving.set()
        if self._rounds is not None:
            await asyncio.wait([self._rounds])
        self._still = True
        for folder in self.folders:
            folder.still = True
        errors = await self._finish()
        try:
            await self.held.leave()
        except SaveFailed as error:
            errors.insert(0, error)
        if errors:
            text = "; ".join(dict.fromkeys(str(error) for error in errors))
            self._lease.mark_dirty(text, self._tenant.address)
            raise type(errors[0])(text) from errors[0]

    async def _finish(self) -> list[SaveFailed]:
        """Save, keep or set aside the folders. Returns the errors of the folders only."""
        if self._record.deleted:
            lost = [one for one in self.folders if one.entry.in_use and not databases_of(self.held)]
            return [CopyLost(f"{one}: {autosave.DELETED}") for one in lost]  # else ``held`` reports it
        if self._lease.ended.is_set():
            return await self._keep_or_set_aside()
        try:
            await self.held.save(silent)
        except SaveFailed as error:
            if _store_is_away(error):
                return [SaveFailed(f"{one} is not saved: {error}. The local copy is kept") for one in self.folders]
        errors = await self._save_folders(silent)
        return errors + await self._let_go()

    async def _keep_or_set_aside(self) -> list[SaveFailed]:
        """The lease has ended. If it is lost, unsaved files belong to no history: set them aside."""
        errors = []
        for folder in self.folders:
            try:
                await folder.look()
                if folder.unsaved and self._lease.lost:
                    await set_aside(folder, self._lease.why)
                elif folder.unsaved:
                    errors.append(SaveFailed(f"{folder}: {self._lease.why}. The local copy is kept"))
            except (SaveFailed, OSError) as error:
                errors.append(SaveFailed(f"{folder}: {self._lease.why}. The local copy is kept: {error}"))
        return errors if errors else await self._let_go()

    async def _let_go(self) -> list[SaveFailed]:
        """Clear ``in_use`` of those that are saved."""
        saved = [one for one in self.folders if not one.failed and one.name not in self._notes]
        try:
            await self._record.put({one.name: structs.replace(one.entry, in_use=False) for one in saved})
        except OSError as error:
            return [SaveFailed(f"{self._tenant.address}: saved, but the record cannot be written: {error}")]
        return []


def _store_is_away(error: BaseException | None) -> bool:
    """Return whether the store did not respond, so that another attempt would only take time."""
    while error is not None:
        if isinstance(error, StoreUnavailable):
            return True
        error = error.__cause__
    return False


def databases_of(held: AutoSaver | Replication) -> list[Database]:
    if isinstance(held, Replication):
        return [stream.database for stream in held.streams]
    return list(held.databases)


def unchanged(held: AutoSaver | Replication) -> Callable[[], dict[str, str]]:
    """Return a function that returns the versions of the databases which the store surely has as they are here."""

    def found() -> dict[str, str]:
        if isinstance(held, Replication):
            named = {one.database.name: _of_stream(one) for one in held.streams if not one.unsaved}
        else:
            named = {one.name: _of_snapshot(one) for one in held.databases if not one.unsaved}
        return {name: version for name, version in named.items() if version}

    return found


def _of_snapshot(database: Database) -> str:
    return manifest.version(database.entry.base.key) if database.entry.base is not None else ""


def _of_stream(one: StreamedDatabase) -> str:
    stream = one.stream
    if stream is None:
        return _of_snapshot(one.database)
    return str(Position(stream.line, stream.renewal, stream.txid)) if stream.txid else ""


async def set_aside(folder: SavedFolder, reason: str) -> None:
    """Move the local folder away, complete: below ``.flyatc/orphans/TIME/``. Raises OSError."""
    await orphaned_copies.set_aside(folder, folder.tools, reason)
