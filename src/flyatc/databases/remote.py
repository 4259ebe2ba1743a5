"""One database in the store, below ``users/<user>/<tenant>/<database>/``: its pointer and its snapshots."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import manifest
from flyatc.databases.manifest import OF_FILES, Pointer
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import ObjectStore, Stored, StoreUnavailable


class PointerDamaged(StoreUnavailable):
    """current.json exists and cannot be decoded: the current version is unknown."""


@dataclass(frozen=True)
class Current:
    pointer: Pointer | None  # None: nothing was saved yet
    etag: str
    owner: int  # epoch of the last machine that took the database over; 0: none did
    streamed: bool  # litestream has written since
    began: int = 0  # of a blank pointer: see manifest.Blank


@dataclass(frozen=True)
class Version:
    """One snapshot in the store, of a database or of a folder of files. ``size``: bytes of it; None: uploaded, but
    never published. ``beside``: see Snapshot."""

    database: str
    id: str  # "000001-000000042"
    saved: float  # Unix time
    size: int | None
    compressed: int
    current: bool
    beside: Mapping[str, str] = field(default_factory=dict)


def in_time(found: list[Version]) -> list[Version]:
    """Sort the newest first, and mark it as the current one."""
    ordered = sorted(found, key=lambda one: one.saved, reverse=True)
    return [replace(one, current=one is ordered[0]) for one in ordered]


class RemoteDatabase:
    """Pointer and snapshots of one database. Methods also raise the store's errors."""

    def __init__(self, store: ObjectStore, tenant: Tenant, database: str) -> None:
        self._store, self._name = store, database
        name = segment_of(database)
        self._prefix = f"users/{tenant.user}/{tenant.key}/{name}/"
        self.orphan_store = OrphanStore(store, f"users/{tenant.user}/orphans/{tenant.key}/{name}/")

    async def current(self) -> Current | None:
        """Return the current pointer; None: the store certainly has none. Raises PointerDamaged."""
        key = f"{self._prefix}current.json"
        found = await self._store.get(key)
        if found is None:
            return None
        try:
            read = manifest.decode(found[0])
            if isinstance(read, Pointer):
                return Current(read, found[1], read.owner, read.streamed)
            return Current(None, found[1], read.owner, read.streamed, read.began)
        except ValueError as error:
            raise PointerDamaged(
                f"{key} in the store is damaged ({error}). The snapshots beside it are not touched: move the file "
                "away, then choose one: flyatc history lists them, flyatc restore --version takes one"
            ) from error

    async def point(self, pointer: Pointer, before: Current | None) -> None:
        """Compare-and-swap: write ``pointer`` if the store's is still ``before``. Raises ConditionFailed."""
        await self._point(pointer, before)

    async def _point(self, pointer: Pointer | manifest.Blank, before: Current | None) -> None:
        body = manifest.encode(pointer)
        key = f"{self._prefix}current.json"
        if before is None:
            await self._store.put(key, body, create=True)
        else:
            await self._store.put(key, body, match=before.etag)

    async def stamp(self, current: Current | None, owner: int, *, streamed: bool | None = None, began: int = 0) -> None:
        """Write the same pointer with this owner, so that pending writes of an earlier owner fail. ``streamed`` None:
        as it was. ``began``: for a blank pointer without it.

        Raises ConditionFailed."""
        pointer = current.pointer if current is not None else None
        if streamed is None:
            streamed = current is not None and current.streamed
        if pointer is not None:
            return await self._point(structs.replace(pointer, owner=owner, streamed=streamed), current)
        began = (current.began if current is not None else 0) or began
        await self._point(manifest.Blank(owner=owner, streamed=streamed, began=began, nonce=uuid.uuid4().hex), current)

    async def clear(self, owner: int) -> bool:
        """Delete a blank pointer with this owner, if any. Return whether nothing is left of the database."""
        current = await self.current()
        if current is not None and (current.pointer is not None or current.owner != owner):
            return False
        if current is not None and not await self.snapshots():
            await self._store.delete(f"{self._prefix}current.json", match=current.etag)
        return not await self._store.list(self._prefix)

    async def snapshots(self) -> dict[str, Stored]:
        """Return all snapshots, published or not, by name."""
        cut = len(self._prefix)
        found = {stored.key[cut:]: stored for stored in await self._store.list(self._prefix)}
        return {key: stored for key, stored in found.items() if manifest.number(key) is not None}

    async def versions(self) -> list[Version]:
        """Return all snapshots with their descriptions, newest first."""
        current, there = await self.current(), await self.snapshots()
        pointer = current.pointer if current is not None else None
        listed = {} if pointer is None else {s.key: s for s in (*pointer.previous, pointer.snapshot)}
        return [
            Version(
                database=self._name,
                id=manifest.version(key),
                saved=manifest.saved_at(listed[key]) if key in listed else stored.modified,
                size=listed[key].size if key in listed else None,
                compressed=listed[key].compressed if key in listed and key.endswith(OF_FILES) else stored.size,
                current=pointer is not None and key == pointer.key,
                beside=listed[key].beside if key in listed else {},
            )
            for key, stored in sorted(there.items(), reverse=True)
        ]

    async def upload(self, key: str, path: Path, progress: Progress) -> None:
        """Upload a snapshot, create-only. Raises ConditionFailed."""
        await self._store.upload(f"{self._prefix}{key}", path, create=True, progress=progress)

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        """Download one object. Raises Absent."""
        await self._store.download(f"{self._prefix}{key}", path, progress)

    async def download_by_full_key(self, key: str, path: Path) -> None:
        """Download an object of another program, by its full key. Raises Absent."""
        await self._store.download_by_full_key(key, path, silent)

    async def delete(self, key: str) -> None:
        await self._store.delete(f"{self._prefix}{key}")


class OrphanStore:
    """Orphaned copies of one database in the store. Methods also raise the store's errors."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    async def keep(self, key: str, path: Path) -> str:
        """Upload one, and return its key in the store. Raises ConditionFailed."""
        whole = f"{self._prefix}{key}"
        await self._store.upload(whole, path, create=True, progress=silent)
        return whole

    async def names(self) -> list[str]:
        return [stored.key.removeprefix(self._prefix) for stored in await self._store.list(self._prefix)]

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        """Download one object. Raises Absent."""
        await self._store.download(f"{self._prefix}{key}", path, progress)
