"""One database's place in the store: ``users/<user>/<tenant>/<database>/``, its pointer and its snapshots."""

from dataclasses import dataclass
from pathlib import Path

from flyatc.config.schema import Tenant
from flyatc.databases import lineage
from flyatc.databases.lineage import Pointer
from flyatc.kit.progress import Progress
from flyatc.objects.store import ObjectStore, Stored, StoreUnavailable


class PointerDamaged(StoreUnavailable):
    """current.json is there and makes no sense: what the database is, is not known."""


@dataclass(frozen=True)
class Current:
    pointer: Pointer
    etag: str


class Shelf:
    """Raises what the store raises."""

    def __init__(self, store: ObjectStore, tenant: Tenant, database: str) -> None:
        self._store = store
        self._prefix = f"users/{tenant.user}/{tenant.key}/{database.replace('/', '~')}/"  # no name holds a '~'

    async def current(self) -> Current | None:
        """None: it surely has none. Raises PointerDamaged."""
        key = f"{self._prefix}current.json"
        found = await self._store.get(key)
        if found is None:
            return None
        try:
            return Current(lineage.decode(found[0]), found[1])
        except ValueError as error:
            raise PointerDamaged(
                f"{key} in the store is damaged ({error}). The snapshots beside it are not touched: move the file "
                "away, then choose one with flyatc restore --list and flyatc restore --version"
            ) from error

    async def point(self, pointer: Pointer, before: Current | None) -> None:
        """Compare and swap: only if the store's pointer is still ``before``. Raises ConditionFailed."""
        body = lineage.encode(pointer)
        key = f"{self._prefix}current.json"
        if before is None:
            await self._store.put(key, body, create=True)
        else:
            await self._store.put(key, body, match=before.etag)

    async def snapshots(self) -> dict[str, Stored]:
        """All that are there, published or not, by name."""
        cut = len(self._prefix)
        found = {stored.key[cut:]: stored for stored in await self._store.list(self._prefix)}
        return {key: stored for key, stored in found.items() if lineage.number(key) is not None}

    async def upload(self, key: str, path: Path, progress: Progress) -> None:
        """A snapshot is written once, never again. Raises ConditionFailed."""
        await self._store.upload(f"{self._prefix}{key}", path, create=True, progress=progress)

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        """Raises Absent."""
        await self._store.download(f"{self._prefix}{key}", path, progress)

    async def delete(self, key: str) -> None:
        await self._store.delete(f"{self._prefix}{key}")
