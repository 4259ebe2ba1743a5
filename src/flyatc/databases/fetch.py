"""A snapshot from the store to a whole, verified file on the local disk; put in its place by somebody else."""

from functools import partial
from pathlib import Path

from flyatc.databases import lineage, packing, sqlite
from flyatc.databases.database import Database
from flyatc.databases.lineage import Pointer, Snapshot
from flyatc.databases.snapshot import Attic, Shelf
from flyatc.databases.tools import Tools
from flyatc.kit.progress import Progress
from flyatc.objects.store import Absent


class SnapshotDamaged(Exception):
    """It cannot be vouched for; says why."""


async def fetch(
    shelf: Shelf | Attic, key: str, known: Snapshot | None, place: Path, tools: Tools, progress: Progress
) -> Path:
    """``key`` from ``shelf``, unpacked, checked and synced, below ``place``. ``known``: what it must be, if on record.

    Raises SnapshotDamaged; StoreUnavailable; OSError."""
    packed, raw = place / key, place / f"{key}.raw"
    try:
        await shelf.download(key, packed, progress)
        size = known.size if known is not None else None
        digest = await tools.heavy.watch(partial(packing.unpack, packed, raw, size), "unpack", progress)
        if known is not None and digest != known.sha256:
            raise SnapshotDamaged("its content is not what was saved (sha256 differs)")
        await tools.quick.run(packed.unlink)
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except (Absent, packing.Damaged, sqlite.Unusable) as error:
        raise SnapshotDamaged(str(error)) from error
    return raw


def known(pointer: Pointer | None, key: str) -> Snapshot | None:
    """What the pointer says of the snapshot ``key``."""
    listed = () if pointer is None else (pointer.snapshot, *pointer.previous)
    return next((snapshot for snapshot in listed if snapshot.key == key), None)


def instead(pointer: Pointer, key: str, database: Database) -> str:
    """What to do when ``key`` is damaged: the sentence which names the snapshot before it."""
    before = next((snapshot for snapshot in pointer.previous if snapshot.key < key), None)
    if before is None:
        return "There is none before it: restore it from a backup of the store"
    what = f"{database.tenant.address} {database.name} --version {lineage.version(before.key)}"
    return f"The one before, saved {before.saved}: flyatc restore {what}"
