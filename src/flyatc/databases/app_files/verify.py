"""Verify the newest save of a folder: each content is fetched and compared with its hash, one at a time."""

from functools import partial
from pathlib import Path

from flyatc.config.schema import Tenant
from flyatc.databases import manifest
from flyatc.databases.app_files import placing
from flyatc.databases.app_files.blobs import Blobs
from flyatc.databases.app_files.folder import Unusable, read_manifest
from flyatc.databases.app_files.manifest import File
from flyatc.databases.decisions.inventory import StoredDatabase
from flyatc.databases.manifest import Pointer
from flyatc.databases.remote import PointerDamaged, RemoteDatabase
from flyatc.databases.verify import Damaged, Found
from flyatc.databases.workers import Workers
from flyatc.objects.store import ObjectStore


class SavedFiles:
    """A source: see ``databases.verify``."""

    kind = "files"

    def __init__(self, store: ObjectStore, tools: Workers) -> None:
        self._store, self._tools = store, tools

    def has(self, stocked: StoredDatabase) -> bool:
        return stocked.is_folder

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        remote = RemoteDatabase(self._store, tenant, database)
        try:
            current = await remote.current()
        except PointerDamaged as error:
            raise Damaged(str(error)) from error
        if current is None and (there := await remote.snapshots()):
            newest = manifest.version(max(there))
            raise Damaged(f"there are saves but no current.json: restore one (the newest is {newest})")
        if current is None or current.pointer is None:
            return None
        pointer = current.pointer
        check = partial(self._check, remote, Blobs(self._store, tenant, database), pointer)
        return Found(manifest.version(pointer.key), min(pointer.size, 1 << 20), _no_database, check)

    async def _check(self, remote: RemoteDatabase, blobs: Blobs, pointer: Pointer, place: Path) -> int:
        try:
            found = await read_manifest(remote, pointer.key, pointer.link, place, self._tools)
            for file in {one.blob: one for one in found.files}.values():
                await self._check_one(blobs, file, place / "content")
        except (Unusable, placing.Damaged) as error:
            raise Damaged(str(error)) from error
        return found.size

    async def _check_one(self, blobs: Blobs, file: File, path: Path) -> None:
        try:
            await placing.fetch(blobs, file, path, self._tools)
        finally:
            await self._tools.quick.run(partial(path.unlink, missing_ok=True))


async def _no_database(place: Path) -> Path:
    raise Damaged("it is no database")
