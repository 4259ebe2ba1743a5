"""Remove what is no longer needed of a folder from the store: surplus manifests, then content that none of them names.

Only the holder of the lease deletes, after its save is confirmed, and checks the lease before each deletion. It deletes
content of numbers up to the current save only, that neither this save nor any kept one names. A later save relies on
the content of the current save, and on its own number: so no deletion can hit it, however late it arrives.
"""

from functools import partial
from pathlib import Path
from time import time
from typing import Protocol

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import manifest
from flyatc.databases.app_files import index as indexes
from flyatc.databases.app_files.blobs import Blobs
from flyatc.databases.app_files.index import Index
from flyatc.databases.app_files.manifest import Manifest
from flyatc.databases.manifest import Link, Pointer
from flyatc.databases.remote import RemoteDatabase
from flyatc.databases.workers import Workers
from flyatc.objects.store import ObjectStore, StoreUnavailable
from flyatc.ownership.lease import Lease

EVERY = 3600.0  # s; between two sweeps: one reads all kept manifests, and lists all content


class Saved(Protocol):
    """The folder as needed here: see ``folder.SavedFolder``."""

    tenant: Tenant
    name: str
    store: ObjectStore
    remote: RemoteDatabase
    blobs: Blobs
    lease: Lease
    tools: Workers
    index_path: Path

    @property
    def keep(self) -> int: ...

    async def index(self) -> Index: ...

    async def manifest(self, key: str, link: Link | None) -> Manifest: ...


async def prune(folder: Saved, pointer: Pointer) -> None:
    """Delete surplus manifests; sweep if it is due. Raises StoreUnavailable, folder.Unusable, OSError."""
    there = list(await folder.remote.snapshots())
    surplus = manifest.surplus(there, pointer, folder.keep)
    if not surplus:
        return
    needed = await _named(folder)
    gone = {key for key in surplus if manifest.version(key) not in needed}
    for key in sorted(gone):
        may_delete(folder)
        await folder.remote.delete(key)
    index = await folder.index()
    if gone and not index.swept < time() < index.swept + EVERY:
        await sweep(folder, pointer, [key for key in there if key not in gone])
        swept = structs.replace(index, swept=time())
        await folder.tools.quick.run(partial(indexes.write, folder.index_path, swept))


async def _named(folder: Saved) -> set[str]:
    """Return the saves of this folder that kept versions of the databases name."""
    named: set[str] = set()
    for name in folder.tenant.app.databases:
        remote = RemoteDatabase(folder.store, folder.tenant, name)
        current = await remote.current()
        if current is not None and current.pointer is not None:
            there = await remote.snapshots()
            listed = (current.pointer.snapshot, *current.pointer.previous)
            named |= {one.beside.get(folder.name, "") for one in listed if one.key in there}
    return named


async def sweep(folder: Saved, pointer: Pointer, kept: list[str]) -> int:
    """Delete content that none of ``kept``, which has all manifests that are left, names. Return how many objects.

    A manifest that cannot be read ends it: Unusable."""
    links = {one.key: one.link for one in (pointer.snapshot, *pointer.previous)}
    needed: set[str] = set()
    for key in {*kept, pointer.key}:
        needed |= (await folder.manifest(key, links.get(key))).blobs
    current = manifest.version(pointer.key)
    unused = [blob for blob in await folder.blobs.all() if blob not in needed and blob.partition("/")[0] <= current]
    for blob in unused:
        may_delete(folder)
        await folder.blobs.delete([blob])
    return len(unused)


def may_delete(folder: Saved) -> None:
    if not folder.lease.valid():
        raise StoreUnavailable("this machine may not write at this moment")
