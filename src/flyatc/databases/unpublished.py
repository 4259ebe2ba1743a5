"""A first save that was cut off between its upload and current.json: the newest complete snapshot is published.

Adopting is a line of steps, each of which a crash may be the last of: fetch and verify beside (nothing has changed);
publish by compare-and-swap (from here on it is an ordinary current version, and the next start restores it); put in
place. Only called where ``plan`` says that nothing was ever published.
"""

from functools import partial
from pathlib import Path
from time import time

from flyatc.databases import fetch, files, lineage, packing
from flyatc.databases.database import Database
from flyatc.databases.lineage import Pointer, Snapshot
from flyatc.databases.tools import Tools
from flyatc.kit.progress import silent
from flyatc.objects.store import Absent, ConditionFailed, Stored, StoreUnavailable
from flyatc.observe.log import stamp


async def adopt(database: Database, keys: tuple[str, ...], place: Path, tools: Tools) -> tuple[Pointer, Path] | None:
    """The pointer that was published, and its verified content below ``place``. None: no snapshot is complete.

    Raises StoreUnavailable, OSError."""
    there = await database.shelf.snapshots()
    await tools.quick.run(place.mkdir)
    for key in keys:
        try:
            if key not in there:
                raise StoreUnavailable(f"the snapshot {lineage.version(key)} of {database} was listed, and is gone now")
            raw = await fetch.fetch(database.shelf, key, None, place, tools, silent)
        except fetch.SnapshotDamaged as error:
            if isinstance(error.__cause__, Absent):
                raise StoreUnavailable(f"{database}: {error}") from error
            version = lineage.version(key)
            database.tell("warning", "an unpublished snapshot is not complete", version=version, error=str(error))
            continue
        pointer = await _publish(database, await _described(there[key], key, raw, tools))
        return pointer, raw
    return None


async def _described(stored: Stored, key: str, raw: Path, tools: Tools) -> Snapshot:
    return Snapshot(
        key=key,
        size=files.octets(raw),
        compressed=stored.size,
        sha256=await tools.heavy.watch(partial(packing.digest, raw), "check", silent),
        saved=stamp(min(stored.modified, time())),
    )


async def _publish(database: Database, snapshot: Snapshot) -> Pointer:
    """Raises StoreUnavailable where somebody else has changed current.json, or its answer is lost."""
    shelf, owned = database.shelf, database.owned
    pointer = lineage.point(snapshot, None, owned.epoch)
    current = await shelf.current()
    if current is None or current.pointer is not None or current.owner != owned.epoch or not owned.valid():
        raise StoreUnavailable(f"current.json of {database} has been changed just now")
    try:
        await shelf.point(pointer, current)
    except ConditionFailed as error:
        raise StoreUnavailable(f"current.json of {database} has been changed just now") from error
    database.tell("warning", "an unpublished snapshot is adopted", version=lineage.version(snapshot.key))
    return pointer
