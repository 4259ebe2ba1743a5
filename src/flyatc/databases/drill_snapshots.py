"""The drill for snapshots: the one that current.json names."""

from functools import partial
from pathlib import Path

from flyatc.config.schema import Tenant
from flyatc.databases import fetch, lineage
from flyatc.databases.drill import Damaged, Found
from flyatc.databases.inventory import Stocked
from flyatc.databases.lineage import Pointer
from flyatc.databases.snapshot import PointerDamaged, Shelf
from flyatc.databases.tools import Tools
from flyatc.kit.progress import silent
from flyatc.objects.store import ObjectStore


class Snapshots:
    kind = "snapshot"

    def __init__(self, store: ObjectStore, tools: Tools) -> None:
        self._store, self._tools = store, tools

    def has(self, stocked: Stocked) -> bool:
        return stocked.snapshots

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        shelf = Shelf(self._store, tenant, database)
        try:
            current = await shelf.current()
        except PointerDamaged as error:
            raise Damaged(str(error)) from error
        if current is None:
            if there := await shelf.snapshots():
                newest = lineage.version(max(there))
                raise Damaged(f"there are snapshots but no current.json: restore one (the newest is {newest})")
            return None
        pointer = current.pointer
        if pointer is None:
            return None  # what may lie there is a first save which was never confirmed
        needs = pointer.size + pointer.compressed
        return Found(lineage.version(pointer.key), needs, partial(self._bring, shelf, pointer))

    async def _bring(self, shelf: Shelf, pointer: Pointer, place: Path) -> Path:
        try:
            return await fetch.fetch(shelf, pointer.key, pointer.snapshot, place, self._tools, silent)
        except fetch.SnapshotDamaged as error:
            raise Damaged(str(error)) from error
