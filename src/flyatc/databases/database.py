"""One database which is held here, and how it is saved.

A save is a line of steps, each of which a crash, or a store that fails, may be the last of:

1. copy, check, pack into a workplace: nothing has changed anywhere. The workplace is swept at the next hold.
2. upload under a number of its own, create-only: a snapshot nobody points to. The next save takes a higher number. If
   it is the first one and this machine is lost, the next machine adopts it: see ``unpublished``.
3. *pending* goes on record: the current snapshot is still our base, so the next plan keeps the local copy.
4. the pointer is swapped, if it is still what we know: from here on this is the newest version. Our record says
   pending, so the next plan finds the current snapshot there and keeps the local copy. If the answer is lost, reading
   the pointer back tells; if that fails too, both outcomes are still right in the record.
5. the record is confirmed: base is the new snapshot. Before this is on the disk, case 4 holds.
6. prune: what remains undeleted is deleted after the next save.

Through all of it the local database is only read, and ``in_use`` stays on record until a save after the app's end is
confirmed. So the local copy is kept exactly if the store's current snapshot is one it descends from. If it is not, then
somebody else has written: we never write over that; our copy stays, and is set aside whole at the next hold.
"""

import asyncio
from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import local_files, manifest, sqlite
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer, Position, Signature, Snapshot
from flyatc.databases.remote import Current, RemoteDatabase
from flyatc.databases.sole_owner import Lease
from flyatc.databases.workers import Workers
from flyatc.kit.errors import CopyLost, SaveFailed
from flyatc.kit.types import Progress
from flyatc.objects.store import ConditionFailed, ObjectStore, StoreUnavailable
from flyatc.observe.log import stamp

PENDING = 8  # publications of unknown outcome that are remembered; older ones have long been decided


class Database:
    def __init__(
        self, tenant: Tenant, name: str, record: Record, store: ObjectStore, owned: Lease, tools: Workers
    ) -> None:
        self.tenant, self.name = tenant, name
        self.path = tenant.data / name
        self.folder = tenant.data / ".flyatc"
        self.shelf = RemoteDatabase(store, tenant, name)
        self.owned = owned
        self._record, self._tools = record, tools
        self._lock = asyncio.Lock()
        self.failed = False  # whether the last save did
        self._rival: str | None = None  # why no save can succeed any more

    def __str__(self) -> str:
        return f"{self.tenant.address}: {self.name}"

    @property
    def entry(self) -> Entry:
        return self._record.get(self.name) or Entry()

    async def note(self, entry: Entry) -> None:
        """On record. Raises OSError."""
        await self._record.put({self.name: entry})

    @property
    def unsaved(self) -> bool:
        """Whether the files are not as they were when the store was last known to have them. Cheap."""
        try:
            found = local_files.signature(self.path)
        except OSError:  # the next save says what is wrong
            return True
        if found[0] is None:
            return self._record.deleted
        return found != self.entry.signature

    def tell(self, level: str, message: str, **fields: object) -> None:
        self._tools.log.event(level, message, tenant=self.tenant.address, database=self.name, **fields)

    async def format_version(self) -> int:
        """See ``files.format_version``; never while it is being copied. Raises OSError."""
        async with self._lock:
            return await self._tools.quick.run(partial(local_files.format_version, self.path))

    async def build_upon(self) -> None:
        """The local copy is newer than whatever snapshot the store has, since it was streamed or is its descendant: the
        next save goes on top of that. Raises SaveFailed."""
        try:
            current = await self.shelf.current()
            if current is None or current.pointer is None or self.entry.descends_from(current.pointer.link):
                return
            await self.note(structs.replace(self.entry, base=current.pointer.link, signature=None))
        except (StoreUnavailable, OSError) as error:
            raise SaveFailed(f"{self} is not saved: {error}. The local copy is kept") from error

    async def save(self, progress: Progress, *, anew: bool = False) -> None:
        """The store has what is here now, if it returns. ``anew``: as a new version, changed or not, since the one
        which is there is damaged; then no older one is removed. Raises SaveFailed; then the local copy is as it was."""
        async with self._lock:
            self.failed = True
            try:
                await self._attempt(progress, anew=anew)
            except SaveFailed as error:
                self.tell("warning", "not saved", error=str(error))
                raise
            self.failed = False

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
        seen = await self._look()
        if seen is not None and seen == self.entry.signature and not anew:
            return
        if not self.path.exists() or not self.path.stat().st_size:
            return self._missing()
        began = monotonic()
        async with self._tools.saves, self._tools.workplace(self.folder, "save") as place:
            copy = place / "copy"
            digest = await self.copy(copy, progress)
            pointer, published = await self.publish(copy, digest, None, progress, anew=anew)
        await self._confirm(pointer, seen)
        if published:
            ms = round((monotonic() - began) * 1000)
            version = manifest.version(pointer.key)
            self.tell("info", "saved", version=version, octets=pointer.size, compressed=pointer.compressed, ms=ms)
            if not anew:
                await self.prune(pointer)

    async def publish(
        self, copy: Path, digest: str, position: Position | None, progress: Progress, *, anew: bool = False
    ) -> tuple[Pointer, bool]:
        """``copy`` is the newest version in the store; False: that it was before, and nothing was uploaded.
        ``position``: of litestream, where its stream has the same. ``anew``: see ``save``. Raises SaveFailed,
        StoreUnavailable, ConditionFailed, OSError."""
        current = await self._ours()
        pointer = current.pointer if current is not None else None
        changed = pointer is None or pointer.sha256 != digest or anew
        if current is None or pointer is None or changed or (current.streamed and position is None):
            return await self._upload(copy, digest, position, current, progress), True
        if position is not None and (current.streamed or pointer.position != position):
            return await self._swap(structs.replace(pointer.snapshot, position=position), current), False
        return pointer, False

    async def _look(self) -> Signature | None:
        """The files' signature, taken before they are read; None while it would not show the next write."""
        for _ in range(4):
            found = local_files.signature(self.path)
            if local_files.settled(found):
                return found
            await asyncio.sleep(local_files.TICK / local_files.SECOND)
        return None

    def _missing(self) -> None:
        if self.entry.base is None:
            return  # the app has not made it, or has put nothing into it yet
        version = manifest.version(self.entry.base.key)
        if self.path.exists():
            raise SaveFailed(f"{self} is empty although it had content: not saved, the store keeps version {version}")
        self.tell("warning", "the app has removed its database; the store keeps it", version=version)

    async def copy(self, copy: Path, progress: Progress, *, keep_wal: bool = False) -> str:
        """A checked copy: a damaged database must not take the place of a good one. Its sha256. ``keep_wal``: as in
        ``sqlite.copy``. Raises sqlite.Unusable, OSError."""
        heavy = self._tools.heavy
        await heavy.watch(partial(sqlite.copy, self.path, copy, keep_wal=keep_wal), "copy", progress)
        await heavy.run(partial(sqlite.check_still, copy))
        return await heavy.watch(partial(local_files.digest, copy), "check", progress)

    async def _ours(self) -> Current | None:
        """What the store has now, if we may build on it. Raises SaveFailed if somebody else has written, or may."""
        current = await self.shelf.current()
        if current is not None:
            self._rival = self._find_rival(current)
            if self._rival is not None:
                raise SaveFailed(self._rival)
        self._may_write()
        return current

    def _find_rival(self, current: Current) -> str | None:
        pointer, kept = current.pointer, f"The local copy is kept, and set aside below {self.folder / 'orphans'}"
        if current.owner > self.owned.epoch:
            return f"{self} is not saved: another machine has taken it over. {kept} at the next start"
        if pointer is None or self.entry.descends_from(pointer.link):
            return None
        version = manifest.version(pointer.key)
        return f"{self} is not saved: somebody else has written version {version}. {kept} at the next start"

    def _may_write(self) -> None:
        if not self.owned.valid():
            raise SaveFailed(f"{self} is not saved: this machine may not write at this moment. The local copy is kept")

    async def _upload(
        self, copy: Path, digest: str, position: Position | None, current: Current | None, progress: Progress
    ) -> Pointer:
        packed = copy.with_suffix(".zst")
        await self._tools.heavy.watch(partial(local_files.pack, copy, packed), "compress", progress)
        there = await self.shelf.snapshots()
        snapshot = Snapshot(
            key=manifest.following(current.pointer if current else None, list(there), self.owned.epoch),
            size=local_files.octets(copy),
            compressed=local_files.octets(packed),
            sha256=digest,
            saved=stamp(time()),
            position=position,
        )
        self._may_write()
        await self.shelf.upload(snapshot.key, packed, progress)
        pending = (*self.entry.pending, snapshot.link)[-PENDING:]
        await self.note(structs.replace(self.entry, pending=pending))
        return await self._swap(snapshot, current)

    async def _swap(self, snapshot: Snapshot, current: Current | None) -> Pointer:
        """The pointer is ours when it returns. An answer that says no, or none at all, is settled by reading back."""
        for last in (False, False, True):
            pointer = manifest.point(snapshot, current.pointer if current else None, self.owned.epoch)
            self._may_write()
            try:
                await self.shelf.point(pointer, current)
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
            for key in manifest.surplus(list(await self.shelf.snapshots()), pointer, self._tools.keep):
                await self.shelf.delete(key)
        except StoreUnavailable as error:
            self.tell("warning", "old snapshots are not removed yet", error=str(error))
