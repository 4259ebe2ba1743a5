"""Save one folder of files.

The steps are those of ``Database``, with a manifest in place of a snapshot: a crash or a failure of the store may end
them after any of them.

1. Look at the metadata. If nothing differs from the index, all is saved, and nothing is opened or sent.
2. Upload the content that the store has not, below the number of this save: nothing refers to it. The next attempt has
   the same number and goes on from there.
3. Upload the manifest, create-only: all that it names is in the store.
4. Record it as pending, swap the pointer, confirm: see ``Database``, also for what another machine may have written.
5. Remove surplus manifests; content that no kept manifest names is swept later (``sweep``).

The index is written between 4 and the confirmation in the record. It is only a cache of what was read.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.config.schema import Storage, Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import links, local_files, manifest
from flyatc.databases.app_files import blobs as packing
from flyatc.databases.app_files import index as indexes
from flyatc.databases.app_files import manifest as manifests
from flyatc.databases.app_files import scan as scanning
from flyatc.databases.app_files import sweep
from flyatc.databases.app_files.blobs import Blobs
from flyatc.databases.app_files.index import Index, Known
from flyatc.databases.app_files.manifest import Hostile, Manifest
from flyatc.databases.app_files.scan import NoFolder, Scan, TooMuch
from flyatc.databases.app_files.upload import Upload
from flyatc.databases.database import PENDING, Database
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import OF_FILES, Link, Pointer, Snapshot
from flyatc.databases.remote import Current, RemoteDatabase
from flyatc.databases.workers import Workers
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import Absent, ObjectStore, StoreUnavailable
from flyatc.observe.log import stamp
from flyatc.ownership.lease import Lease


class Unusable(Exception):
    """A save in the store cannot be read; the text is the reason."""


class SavedFolder(Database):
    """A folder below the tenant's data; its ``name`` ends with a slash. ``unchanged`` returns versions of the databases
    that surely have not changed since."""

    def __init__(
        self, tenant: Tenant, name: str, record: Record, store: ObjectStore, lease: Lease, tools: Workers,
        storage: Storage,
    ) -> None:  # fmt: skip
        super().__init__(tenant, name, record, store, lease, tools)
        self.blobs = Blobs(store, tenant, name)
        self.index_path = self.folder / "files" / f"{segment_of(name)}.json"
        self.store, self.tools = store, tools
        self.unchanged: Callable[[], dict[str, str]] = dict
        self.still = False  # the app has ended
        self.paired = False  # a version of a database is about to name this save: it must be the newest
        self.size = 0  # at the last look
        self.skipped = ""  # a sentence on what is not saved
        self.relation = ""  # a sentence if what was restored is not of one moment with the databases
        self.most, self.largest = storage.files_most, storage.files_size
        self.behind = False  # the last look found changes which are not saved
        self._place: Path | None = None
        self._links: dict[str, Path] = {}
        self.before: frozenset[str] = frozenset()  # files that were there before the copies of the databases

    @property
    def unsaved(self) -> bool:
        """True if the last look found changes that are not saved. Cheap: does not look."""
        return self.behind or self.failed

    async def look(self) -> tuple[Scan | None, Index]:
        """Look at the folder now (None: it is absent), and compare it with the index. Raises SaveFailed, OSError."""
        try:
            found, index, same = await self._tools.quick.run(self._look_now)
        except (TooMuch, NoFolder) as error:
            self.behind = True
            raise SaveFailed(f"{self} is not saved: {error}") from error
        self.behind = found is not None and not (same and self._holds(index))
        self.size = found.size if found is not None else 0
        self._tell_skipped(found)
        return found, index

    def _look_now(self) -> tuple[Scan | None, Index, bool]:
        """In a thread, since there may be very many files."""
        found, index = scanning.scan(self.path, self.most, self.largest), indexes.read(self.index_path)
        return found, index, found is not None and index.same(found)

    async def remember(self) -> None:
        """Remember the files that are there now, before a database is copied: if one is removed afterwards, the copy
        may name it, so the next saves keep it until ``forget``. New files get a second name meanwhile, since the store
        has not their content. Raises SaveFailed, OSError."""
        found, index = await self.look()
        if found is not None:
            self._place = await self._tools.quick.run(partial(links.make_workplace, self.folder, "save"))
            await self._add(found, index, self._place)

    async def _add(self, found: Scan, index: Index, place: Path) -> bool:
        """Remember these files; return whether one of them got a second name, which changes its ctime."""
        self.before |= frozenset(found.files)
        links = await self._tools.quick.run(partial(self._link, found, index, place))
        self._links |= links
        return bool(links)

    def _link(self, found: Scan, index: Index, place: Path) -> dict[str, Path]:
        new = [path for path, seen in found.files.items() if not indexes.is_known(index.files.get(path), seen)]
        first = len(self._links)
        targets = {path: place / f"{first}-{at}" for at, path in enumerate(set(new) - self._links.keys())}
        return {path: target for path, target in targets.items() if scanning.link(self.path, path, target)}

    async def forget(self) -> None:
        """Forget what was remembered."""
        self.before, self._links, place = frozenset(), {}, self._place
        self._place = None
        if place is not None:
            await self._tools.quick.run(partial(local_files.remove, place))

    async def index(self) -> Index:
        return await self._tools.quick.run(partial(indexes.read, self.index_path))

    def _holds(self, index: Index) -> bool:
        """Return whether the store has all that the index names, according to the record."""
        return self.entry.base is not None and self.entry.base in (index.link, index.over)

    def _tell_skipped(self, found: Scan | None) -> None:
        skipped = f"{self.name}: {found.skipped_sentence}" if found is not None and found.skipped else ""
        if skipped and not self.skipped:
            self.log_event("warning", "some files are not saved", reason=skipped)
        self.skipped = skipped

    # --- save: called by Database.save ---

    async def _save(self, progress: Progress, *, anew: bool) -> None:
        began, beside = monotonic(), self.unchanged()
        found, index = await self.look()
        if found is not None and self._place is not None and await self._add(found, index, self._place):
            found, index = await self.look()  # some came since ``remember``, and the copy of a database may name them
        if found is None:
            return self._missing()
        newest = index.over is None or not self.paired
        if not anew and ((not self.behind and newest) or (self.entry.base is None and not found.files)):
            self.behind = False  # without a file, there is nothing to save yet
            return
        self.behind = True
        if self.still and found.unsettled:  # so that a later change shows in the metadata
            await local_files.tick()
        async with self._tools.workplace(self.folder, "save") as place:
            upload, current = await self._upload_all(found, index, place, anew=anew)
            after = await self._tools.quick.run(partial(self._next_index, index, upload, self.before))
            kept = self.unchanged()
            beside = {name: version for name, version in beside.items() if kept.get(name) == version}
            pointer, published = await self._publish(after, upload, current, beside, place, anew=anew)
        await self._tools.quick.run(partial(indexes.write, self.index_path, structs.replace(after, link=pointer.link)))
        await self._confirm(pointer, None)
        self.behind = bool(upload.deferred)
        if published:
            ms = round((monotonic() - began) * 1000)
            version, files = manifest.version(pointer.key), len(after.files)
            self.log_event("info", "saved", version=version, files=files, size=pointer.size, sent=upload.size, ms=ms)
            if not anew:
                await self.prune(pointer)

    async def _upload_all(self, found: Scan, index: Index, place: Path, *, anew: bool) -> tuple[Upload, Current | None]:
        current = await self._ours()
        pointer = current.pointer if current is not None else None
        stored: dict[str, str] = {}
        if pointer is not None and not anew:
            stored = index.blobs() if index.link == pointer.link and index.over is None else await self._stored(pointer)
        there = list(await self.remote.snapshots())
        number = manifest.version(manifest.following(pointer, there, self.lease.epoch, OF_FILES))
        present = {} if anew else await self.blobs.there(number)
        upload = Upload(
            self.path, found, index, stored, number, present, self.blobs, place, self._tools, self._may_write,
            self._links,
        )  # fmt: skip
        await upload.run()
        return upload, current

    async def _stored(self, pointer: Pointer) -> dict[str, str]:
        """Return what the store surely has: the content of its newest save."""
        try:
            return {file.sha256: file.at for file in (await self.manifest(pointer.key, pointer.link)).files}
        except Unusable as error:
            self.log_event("error", "the newest save of the files is damaged: all are sent again", error=str(error))
            return {}

    def _next_index(self, index: Index, upload: Upload, carried: frozenset[str]) -> Index:
        """Return the index of this save, with files that were deleted after the databases were copied."""
        files, folders = dict(upload.files), dict(upload.found.folders)
        removed = {
            path: known for path in carried if (known := index.files.get(path)) and known.sha256 in upload.stored
        }
        kept = {path: Known(one.stamp, one.sha256, upload.stored[one.sha256], one.mode, sure=False)
                for path, one in removed.items()} | upload.removed  # fmt: skip
        for path in kept.keys() - upload.found.files.keys():
            parts = path.split("/")
            above = ["/".join(parts[:size]) for size in range(1, len(parts))]
            if path not in folders and not any(one in files for one in above):
                files[path] = kept[path]
                folders = {one: index.folders.get(one, 0o755) for one in above} | folders
        return Index(swept=index.swept, mode=upload.found.mode, folders=folders, files=files)

    async def _publish(
        self, after: Index, upload: Upload, current: Current | None, beside: dict[str, str], place: Path, *, anew: bool
    ) -> tuple[Pointer, bool]:
        """Make it the newest save. False: it already was. Raises SaveFailed, and the store's errors."""
        body = await self._tools.heavy.run(lambda: manifests.encode(indexes.manifest_of(after)))
        if len(body) > manifests.MOST_OCTETS:
            raise SaveFailed(f"{self} is not saved: the list of its files has more than {manifests.MOST_OCTETS} bytes")
        digest = hashlib.sha256(body).hexdigest()
        pointer = current.pointer if current is not None else None
        if pointer is not None and pointer.sha256 == digest and not anew:
            if beside.items() <= pointer.beside.items():
                return pointer, False
            snapshot = structs.replace(pointer.snapshot, beside={**pointer.beside, **beside})
            return await self._swap(snapshot, current), False
        packed = await self._tools.heavy.run(partial(packing.pack, body))
        path = place / "manifest"
        await self._tools.quick.run(lambda: path.write_bytes(packed))
        snapshot = Snapshot(
            key=f"{upload.number}{OF_FILES}",
            size=sum(known.stamp[1] for known in after.files.values()),
            compressed=len(packed) + upload.size,
            sha256=digest,
            saved=stamp(time()),
            beside=beside,
        )
        self._may_write()
        await self.remote.upload(snapshot.key, path, silent)
        pending = (*self.entry.pending, snapshot.link)[-PENDING:]
        await self.note(structs.replace(self.entry, pending=pending))
        return await self._swap(snapshot, current), True

    def _missing(self) -> None:
        self.behind = False
        if self.entry.base is not None:
            version = manifest.version(self.entry.base.key)
            self.log_event("warning", "the app has removed its folder of files; the store keeps it", version=version)

    # --- the store ---

    async def manifest(self, key: str, link: Link | None) -> Manifest:
        """See ``read_manifest``."""
        async with self._tools.workplace(self.folder, "restore") as place:
            return await read_manifest(self.remote, key, link, place, self._tools)

    async def prune(self, pointer: Pointer) -> None:
        try:
            await sweep.prune(self, pointer)
        except StoreUnavailable as error:
            self.log_event("warning", "old saves of the files are not removed yet", error=str(error))
        except (Unusable, OSError) as error:
            self.log_event("error", "old saves of the files are not removed", error=str(error))

    @property
    def keep(self) -> int:
        return self._tools.keep


async def read_manifest(remote: RemoteDatabase, key: str, link: Link | None, place: Path, tools: Workers) -> Manifest:
    """Read the save ``key``. ``link``: its description, if there is one. Raises Unusable; StoreUnavailable."""
    path = place / key
    try:
        await remote.download(key, path, silent)
        return await tools.heavy.run(partial(_read, path, link))
    except (Absent, Hostile) as error:
        raise Unusable(f"the list of files {manifest.version(key)} is damaged: {error}") from error
    finally:
        await tools.quick.run(partial(path.unlink, missing_ok=True))


def _read(path: Path, link: Link | None) -> Manifest:
    if local_files.size(path) > manifests.MOST_OCTETS:
        raise Hostile("it is too large")
    found, body = packing.unpack(path.read_bytes())
    if link is not None and hashlib.sha256(body).hexdigest() != link.sha256:
        raise Hostile("its content is not what was saved (sha256 differs)")
    return found
