"""Save one held database as snapshots.

A save is a sequence of steps. A crash or a failure of the store may end it after any of them:

1. Copy, check and pack into a temporary folder: nothing has changed. The next hold removes the folder.
2. Upload under a new number, create-only: a snapshot without a pointer to it. The next save takes a higher number. If
   it is the first one and this machine is lost, the next machine adopts it: see ``unpublished``.
3. Record it as *pending*: the current snapshot is still our base, so the next plan keeps the local copy.
4. Swap the pointer, if it is unchanged: from here on this is the newest version. Our record says pending, so the next
   plan finds the current snapshot there and keeps the local copy. If the response is lost, the pointer is read back; if
   that fails too, the record is right for both outcomes.
5. Confirm in the record: base is the new snapshot. Until this is on the disk, case 4 holds.
6. Prune: snapshots that could not be deleted are deleted after the next save.

The local database is only read, and ``in_use`` stays on record until a save after the app's end is confirmed. So the
local copy is kept exactly if it descends from the store's current snapshot. If it does not, another machine has
written: that is never overwritten, and our copy is set aside, complete, at the next hold.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import links, local_files, manifest, sqlite
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer, Position, Signature, Snapshot
from flyatc.databases.remote import Current, RemoteDatabase
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import CopyLost, SaveFailed
from flyatc.kit.types import Progress
from flyatc.objects.store import ConditionFailed, ObjectStore, StoreUnavailable
from flyatc.observe.log import stamp
from flyatc.ownership.lease import Lease

STEP = 0.1  # s; a clock that was set back by less cannot reach the time of a settled file again
PENDING = 8  # remembered publications of unknown outcome; older ones have long been decided


class Database:
    def __init__(
        self, tenant: Tenant, name: str, record: Record, store: ObjectStore, lease: Lease, tools: Workers
    ) -> None:
        self.tenant, self.name = tenant, name
        self.path = tenant.data / name
        self.folder = tenant.data / ".flyatc"
        self.remote = RemoteDatabase(store, tenant, name)
        self.lease = lease
        self._record, self._tools = record, tools
        self._lock = asyncio.Lock()
        self.failed = False  # the last save failed
        self.failure = ""  # why
        self._copied, self._changed = 0.0, 0.0  # Unix times of the last change: as our last copy left it, and before
        self._clock = local_files.clock()  # when what is saved was looked at
        self._rival: str | None = None  # reason why no save can succeed any more
        self.beside: Callable[[], Awaitable[dict[str, str]]] = _nothing  # saves the folders of files: see Snapshot
        self.restored: str | None = None  # the version or position that was put in place

    def __str__(self) -> str:
        return f"{self.tenant.address}: {self.name}"

    @property
    def entry(self) -> Entry:
        return self._record.get(self.name) or Entry()

    async def note(self, entry: Entry) -> None:
        """Write the record entry. Raises OSError."""
        await self._record.put({self.name: entry})

    @property
    def unsaved(self) -> bool:
        """True if the files have changed since the store was last known to have them. Cheap."""
        try:
            found = local_files.signature(self.path)
        except OSError:  # the next save reports it
            return True
        if found[0] is None:
            return self._record.deleted
        return not self._is_saved(found)

    def _is_saved(self, found: Signature) -> bool:
        """Return whether ``found`` is what was saved. After the clock was set back, a later write may have the same
        time again: then it is saved once more, which sends nothing if the content is the same."""
        if found != self.entry.signature or not local_files.settled(found):
            return False
        return local_files.clock() > self._clock - STEP

    @property
    def changed(self) -> float:
        """Unix time of the last change by the app; 0: none is known. Our copies may checkpoint the WAL, which changes
        the files: that does not count. Cheap."""
        try:
            newest = local_files.newest_past(local_files.signature(self.path))
        except OSError:  # the next save reports it
            return 0.0
        return self._changed if newest == self._copied else newest

    def log_event(self, level: str, message: str, **fields: object) -> None:
        self._tools.log.event(level, message, tenant=self.tenant.address, database=self.name, **fields)

    async def format_version(self) -> int:
        """See ``local_files.format_version``; never during a copy. Raises OSError."""
        async with self._lock:
            return await self._tools.quick.run(partial(local_files.format_version, self.path))

    async def build_upon(self) -> None:
        """Make the store's current snapshot the base of the next save. The local copy is newer: it was streamed, or it
        descends from that snapshot. Raises SaveFailed."""
        try:
            current = await self.remote.current()
            if current is None or current.pointer is None or self.entry.descends_from(current.pointer.link):
                return
            await self.note(structs.replace(self.entry, base=current.pointer.link, signature=None))
        except (StoreUnavailable, OSError) as error:
            raise SaveFailed(f"{self} is not saved: {error}. The local copy is kept") from error

    async def save(self, progress: Progress, *, anew: bool = False) -> None:
        """Save the current content. ``anew``: as a new version even if unchanged, since the stored one is damaged; then
        no older one is removed. Raises SaveFailed; the local copy is never changed."""
        async with self._lock:
            self.failed = True
            try:
                await self._attempt(progress, anew=anew)
            except SaveFailed as error:
                self.log_event("warning", "not saved", error=str(error))
                self.failure = str(error).removeprefix(f"{self.tenant.address}: ")
                raise
            self.failed, self.failure = False, ""

    async def _attempt(self, progress: Progress, *, anew: bool) -> None:
        if self._rival is not None:
            raise SaveFailed(self._rival)
        if self._record.deleted:
            raise CopyLost(self._lost())
        try:
            await self._save(progress, anew=anew)
        except (StoreUnavailable, ConditionFailed, sqlite.Unusable, OSError) as error:
            raise SaveFailed(f"{self} is not saved: {error}. The local copy is kept") from error

    def _lost(self) -> str:
        base = self.entry.base
        store = f"the store has version {manifest.version(base.key)}" if base is not None else "the store has nothing"
        return f"{self} was deleted while it was in use: what was not saved is lost, {store}"

    async def _save(self, progress: Progress, *, anew: bool) -> None:
        seen, clock = await self._look(), local_files.clock()
        if seen is not None and self._is_saved(seen) and not anew:
            return
        if not self.path.exists() or not self.path.stat().st_size:
            return self._missing()
        began = monotonic()
        links.refuse(self.tenant.data, [self.name])
        async with self._tools.saves, self._tools.workplace(self.folder, "save") as place:
            copy = place / "copy"
            digest = await self.copy(copy, progress)
            seen = self._after_copy(seen)
            pointer, published = await self.publish(copy, digest, None, progress, anew=anew)
        await self._confirm(pointer, seen)
        self._clock = clock
        if published:
            ms = round((monotonic() - began) * 1000)
            version = manifest.version(pointer.key)
            self.log_event("info", "saved", version=version, size=pointer.size, compressed=pointer.compressed, ms=ms)
            if not anew:
                await self.prune(pointer)

    async def publish(
        self, copy: Path, digest: str, position: Position | None, progress: Progress, *, anew: bool = False
    ) -> tuple[Pointer, bool]:
        """Make ``copy`` the newest version in the store. False: it already was, and nothing was uploaded.
        ``position``: in litestream's stream, if that has the same content. ``anew``: see ``save``. Raises SaveFailed,
        StoreUnavailable, ConditionFailed, OSError."""
        current = await self._ours()
        pointer = current.pointer if current is not None else None
        changed = pointer is None or pointer.sha256 != digest or anew
        if current is None or pointer is None or changed or (current.streamed and position is None):
            return await self._upload(copy, digest, position, current, progress), True
        if position is not None and (current.streamed or pointer.position != position):
            snapshot = structs.replace(pointer.snapshot, position=position, beside=await self.beside())
            return await self._swap(snapshot, current), False
        return pointer, False

    async def _look(self) -> Signature | None:
        """Return the signature before the files are read; None if a later write might not change it."""
        local_files.date_back(self.path)
        for _ in range(4):
            found = local_files.signature(self.path)
            if local_files.settled(found):
                return found
            await asyncio.sleep(local_files.TICK / local_files.SECOND)
        return None

    def _after_copy(self, seen: Signature | None) -> Signature | None:
        """Return the signature as the copy has left it: as root, SQLite sets the owner of a WAL that it opens, which
        changes its ctime each time. A write since the look shows in an mtime."""
        now = local_files.signature(self.path)
        return now if local_files.untouched(seen, now) else seen

    def _missing(self) -> None:
        if self.entry.base is None:
            return  # the app has not created it, or has written nothing yet
        version = manifest.version(self.entry.base.key)
        if self.path.exists():
            raise SaveFailed(f"{self} is empty although it had content: not saved, the store keeps version {version}")
        self.log_event("warning", "the app has removed its database; the store keeps it", version=version)

    async def copy(self, copy: Path, progress: Progress, *, keep_wal: bool = False) -> str:
        """Make a checked copy, since a damaged database must not replace a good one; return its sha256. ``keep_wal``:
        as in ``sqlite.copy``. Raises sqlite.Unusable, OSError."""
        heavy, self._changed = self._tools.heavy, self.changed
        copying = partial(sqlite.copy, self.path, copy, data=self.tenant.data, keep_wal=keep_wal)
        await heavy.watch(copying, "copy", progress)
        self._copied = local_files.newest_past(local_files.signature(self.path))
        await heavy.run(partial(sqlite.check_still, copy))
        return await heavy.watch(partial(local_files.digest, copy), "check", progress)

    async def _ours(self) -> Current | None:
        """Return the store's pointer, if it may be built on. Raises SaveFailed if another machine may have written."""
        current = await self.remote.current()
        if current is not None:
            self._rival = self._find_rival(current)
            if self._rival is not None:
                raise SaveFailed(self._rival)
        self._may_write()
        return current

    def _find_rival(self, current: Current) -> str | None:
        pointer, kept = current.pointer, f"The local copy is kept, and set aside below {self.folder / 'orphans'}"
        if current.owner > self.lease.epoch:
            return f"{self} is not saved: another machine has taken it over. {kept} at the next start"
        if pointer is None or self.entry.descends_from(pointer.link):
            return None
        version = manifest.version(pointer.key)
        return f"{self} is not saved: another machine has written version {version}. {kept} at the next start"

    def _may_write(self) -> None:
        if self._record.deleted:  # what was copied is of another folder than the one that was restored
            raise CopyLost(self._lost())
        if not self.lease.valid():
            raise SaveFailed(f"{self} is not saved: this machine may not write at this moment. The local copy is kept")

    async def _upload(
        self, copy: Path, digest: str, position: Position | None, current: Current | None, progress: Progress
    ) -> Pointer:
        packed = copy.with_suffix(".zst")
        await self._tools.heavy.watch(partial(local_files.pack, copy, packed), "compress", progress)
        there = await self.remote.snapshots()
        snapshot = Snapshot(
            key=manifest.following(current.pointer if current else None, list(there), self.lease.epoch),
            size=local_files.size(copy),
            compressed=local_files.size(packed),
            sha256=digest,
            saved=stamp(time()),
            position=position,
            beside=await self.beside(),
        )
        self._may_write()
        await self.remote.upload(snapshot.key, packed, progress)
        pending = (*self.entry.pending, snapshot.link)[-PENDING:]
        await self.note(structs.replace(self.entry, pending=pending))
        return await self._swap(snapshot, current)

    async def _swap(self, snapshot: Snapshot, current: Current | None) -> Pointer:
        """Swap the pointer. After a refusal or a lost response, read it back to learn the outcome."""
        for last in (False, False, True):
            pointer = manifest.point(snapshot, current.pointer if current else None, self.lease.epoch)
            self._may_write()
            try:
                await self.remote.point(pointer, current)
                return pointer
            except (ConditionFailed, StoreUnavailable):
                current = await self._ours()
                found = current.pointer if current is not None and not current.streamed else None
                if found is not None and found.snapshot == snapshot:
                    return found
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _confirm(self, pointer: Pointer, seen: Signature | None) -> None:
        confirmed = structs.replace(
            self.entry, base=pointer.link, pending=(), signature=seen, saved_at=time(), line=0, txid=0
        )
        await self.note(confirmed)

    async def prune(self, pointer: Pointer) -> None:
        try:
            for key in manifest.surplus(list(await self.remote.snapshots()), pointer, self._tools.keep):
                await self.remote.delete(key)
        except StoreUnavailable as error:
            self.log_event("warning", "old snapshots are not removed yet", error=str(error))


async def _nothing() -> dict[str, str]:
    return {}


@contextlib.asynccontextmanager
async def unused_if_cut_short(databases: Iterable[Database], record: Record) -> AsyncIterator[None]:
    """Within the block ``databases`` are made current and recorded as in use. If it fails afterwards, as by a stop, no
    app has had them: those that are as the store has them are recorded as not in use, unless they were before."""
    unused = [one for one in databases if not one.entry.in_use]
    try:
        yield
    except BaseException:
        taken = [one for one in unused if one.entry.in_use and not one.unsaved]
        if taken:
            entries = {one.name: structs.replace(one.entry, in_use=False) for one in taken}
            with contextlib.suppress(OSError):  # then the record says that they are in use, and the user is dirty
                await tasks.to_the_end(tasks.start(record.put(entries), f"not taken: {taken[0].tenant.address}"))
        raise
