"""A snapshot from the store to a whole, verified file on the local disk; put in its place by somebody else.

A database which another program has kept in the store as one whole object: taken over once, when we have none.

A file on its way to become a database.

A first save that was cut off between its upload and current.json: the newest complete snapshot is published.

Adopting is a line of steps, each of which a crash may be the last of: fetch and verify beside (nothing has changed);
publish by compare-and-swap (from here on it is an ordinary current version, and the next start restores it); put in
place. Only called where ``plan`` says that nothing was ever published.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, time

from flyatc.config.schema import Tenant
from flyatc.databases import local_files, manifest, sqlite
from flyatc.databases.database import Database
from flyatc.databases.manifest import Pointer, Snapshot
from flyatc.databases.remote import OrphanStore, RemoteDatabase
from flyatc.databases.restore_plan import Here
from flyatc.databases.workers import Workers
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import Absent, ConditionFailed, Stored, StoreUnavailable
from flyatc.observe.log import stamp


class SnapshotDamaged(Exception):
    """It cannot be vouched for; says why."""


async def fetch(
    shelf: RemoteDatabase | OrphanStore,
    key: str,
    known: Snapshot | None,
    place: Path,
    tools: Workers,
    progress: Progress,
) -> Path:
    """``key`` from ``shelf``, unpacked, checked and synced, below ``place``. ``known``: what it must be, if on record.

    Raises SnapshotDamaged; StoreUnavailable; OSError."""
    packed, raw = place / key, place / f"{key}.raw"
    try:
        await shelf.download(key, packed, progress)
        size = known.size if known is not None else None
        digest = await tools.heavy.watch(partial(local_files.unpack, packed, raw, size), "unpack", progress)
        if known is not None and digest != known.sha256:
            raise SnapshotDamaged("its content is not what was saved (sha256 differs)")
        await tools.quick.run(packed.unlink)
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except (Absent, local_files.Damaged, sqlite.Unusable) as error:
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
    what = f"{database.tenant.address} {database.name} --version {manifest.version(before.key)}"
    return f"The one before, saved {before.saved}: flyatc restore {what}"


@dataclass(frozen=True)
class Restored:
    """A whole file, verified and synced."""

    raw: Path
    message: str  # restored, seeded, adopted
    version: str | None
    octets: int
    began: float


async def adopt(template: str, database: Database, place: Path, tools: Workers) -> Restored | None:
    """A checked copy of the object; None: it surely is not there. The object stays as it is.

    Raises RestoreRefused; StoreUnavailable, OSError."""
    began, key = monotonic(), fill(template, database.tenant, database.name)
    raw = place / f"{database.name.replace('/', '~')}.adopted"
    try:
        async with tools.restores:
            await database.shelf.borrow(key, raw)
    except Absent:
        return None
    if await tools.quick.run(partial(local_files.look, raw)) is not Here.SQLITE:
        raise RestoreRefused(
            f"{database}: the object {key!r} in the store is not a SQLite database. Without it an empty one is made"
        )
    try:
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise RestoreRefused(f"{database}: the object {key!r} in the store is damaged: {error}") from error
    return Restored(raw, "adopted", None, local_files.octets(raw), began)


def fill(template: str, tenant: Tenant, database: str) -> str:
    """Names of users, tenants and databases have no braces."""
    words = {"user": tenant.user, "tenant": tenant.name, "database": database}
    for word, value in words.items():
        template = template.replace(f"{{{word}}}", value)
    return template


async def adopt_unpublished(
    database: Database, keys: tuple[str, ...], place: Path, tools: Workers
) -> tuple[Pointer, Path] | None:
    """The pointer that was published, and its verified content below ``place``. None: no snapshot is complete.

    Raises StoreUnavailable, OSError."""
    there = await database.shelf.snapshots()
    await tools.quick.run(place.mkdir)
    for key in keys:
        try:
            if key not in there:
                raise StoreUnavailable(
                    f"the snapshot {manifest.version(key)} of {database} was listed, and is gone now"
                )
            raw = await fetch(database.shelf, key, None, place, tools, silent)
        except SnapshotDamaged as error:
            if isinstance(error.__cause__, Absent):
                raise StoreUnavailable(f"{database}: {error}") from error
            version = manifest.version(key)
            database.tell("warning", "an unpublished snapshot is not complete", version=version, error=str(error))
            continue
        pointer = await _publish(database, await _described(there[key], key, raw, tools))
        return pointer, raw
    return None


async def _described(stored: Stored, key: str, raw: Path, tools: Workers) -> Snapshot:
    return Snapshot(
        key=key,
        size=local_files.octets(raw),
        compressed=stored.size,
        sha256=await tools.heavy.watch(partial(local_files.digest, raw), "check", silent),
        saved=stamp(min(stored.modified, time())),
    )


async def _publish(database: Database, snapshot: Snapshot) -> Pointer:
    """Raises StoreUnavailable where somebody else has changed current.json, or its answer is lost."""
    shelf, owned = database.shelf, database.owned
    pointer = manifest.point(snapshot, None, owned.epoch)
    current = await shelf.current()
    if current is None or current.pointer is not None or current.owner != owned.epoch or not owned.valid():
        raise StoreUnavailable(f"current.json of {database} has been changed just now")
    try:
        await shelf.point(pointer, current)
    except ConditionFailed as error:
        raise StoreUnavailable(f"current.json of {database} has been changed just now") from error
    database.tell("warning", "an unpublished snapshot is adopted", version=manifest.version(snapshot.key))
    return pointer
