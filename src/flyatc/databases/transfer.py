"""Download a snapshot into a verified local file, and adopt databases that were never published.

Adopt is used in two cases: another program has left the database in the store as one object, and the store has no
version of ours; or a first save was cut off between its upload and current.json, and its newest complete snapshot is
published now. A crash may come after each step of the latter: fetch and verify beside (nothing has changed); publish
by compare-and-swap (now it is an ordinary current version, and the next start restores it); put in place. It is only
called if ``plan`` says that nothing was ever published.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import local_files, manifest, sqlite
from flyatc.databases.database import Database
from flyatc.databases.decisions.keep_or_restore import Here
from flyatc.databases.manifest import Pointer, Snapshot
from flyatc.databases.remote import OrphanStore, RemoteDatabase
from flyatc.databases.workers import Workers
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import Absent, ConditionFailed, Stored, StoreUnavailable
from flyatc.observe.log import stamp


class SnapshotDamaged(Exception):
    """The snapshot cannot be trusted; the text is the reason."""


async def fetch(
    source: RemoteDatabase | OrphanStore,
    key: str,
    known: Snapshot | None,
    place: Path,
    tools: Workers,
    progress: Progress,
) -> Path:
    """Download ``key`` from ``source``, unpack, check and sync it below ``place``. ``known``: its description, if any.

    Raises SnapshotDamaged; StoreUnavailable; OSError."""
    packed, raw = place / key, place / f"{key}.raw"
    try:
        await source.download(key, packed, progress)
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
    """Return the pointer's description of the snapshot ``key``."""
    listed = () if pointer is None else (pointer.snapshot, *pointer.previous)
    return next((snapshot for snapshot in listed if snapshot.key == key), None)


def older_version_advice(pointer: Pointer, key: str, database: Database) -> str:
    """Return advice for a damaged ``key``, which names the snapshot before it."""
    before = next((snapshot for snapshot in pointer.previous if snapshot.key < key), None)
    if before is None:
        return "There is none before it: restore it from a backup of the store"
    what = f"{database.tenant.address} {database.name} --version {manifest.version(before.key)}"
    return f"The one before, saved {before.saved}: flyatc restore {what}"


@dataclass(frozen=True)
class Restored:
    """A complete file, verified and synced, to be put in place."""

    raw: Path
    message: str  # restored, seeded, adopted
    version: str | None
    size: int
    began: float


async def adopt(template: str, database: Database, place: Path, tools: Workers) -> Restored | None:
    """Make a checked copy of another program's object; None: it certainly does not exist. The object is not changed.

    Raises RestoreRefused; StoreUnavailable, OSError."""
    began, key = monotonic(), fill(template, database.tenant, database.name)
    raw = place / f"{database.name.replace('/', '~')}.adopted"
    try:
        async with tools.restores:
            await database.remote.download_by_full_key(key, raw)
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
    return Restored(raw, "adopted", None, local_files.size(raw), began)


def fill(template: str, tenant: Tenant, database: str) -> str:
    """Fill the placeholders. Names of users, tenants and databases have no braces."""
    words = {"user": tenant.user, "tenant": tenant.name, "database": database}
    for word, value in words.items():
        template = template.replace(f"{{{word}}}", value)
    return template


async def adopt_unpublished(
    database: Database, keys: tuple[str, ...], place: Path, tools: Workers
) -> tuple[Pointer, Path] | None:
    """Publish the first complete snapshot of ``keys``; return its pointer and its verified file below ``place``.
    None: no snapshot is complete.

    Raises StoreUnavailable, OSError."""
    there = await database.remote.snapshots()
    await tools.quick.run(place.mkdir)
    for key in keys:
        try:
            if key not in there:
                raise StoreUnavailable(
                    f"the snapshot {manifest.version(key)} of {database} was listed, and is gone now"
                )
            raw = await fetch(database.remote, key, None, place, tools, silent)
        except SnapshotDamaged as error:
            if isinstance(error.__cause__, Absent):
                raise StoreUnavailable(f"{database}: {error}") from error
            version = manifest.version(key)
            database.log_event("warning", "an unpublished snapshot is not complete", version=version, error=str(error))
            continue
        pointer = await _publish(database, await _described(there[key], key, raw, tools))
        return pointer, raw
    return None


async def _described(stored: Stored, key: str, raw: Path, tools: Workers) -> Snapshot:
    return Snapshot(
        key=key,
        size=local_files.size(raw),
        compressed=stored.size,
        sha256=await tools.heavy.watch(partial(local_files.digest, raw), "check", silent),
        saved=stamp(min(stored.modified, time())),
    )


async def _publish(database: Database, snapshot: Snapshot) -> Pointer:
    """Publish it. Raises StoreUnavailable if another machine has changed current.json, or the response is lost."""
    remote_database, lease = database.remote, database.lease
    unsaved = {f"{name}/": "" for name in database.tenant.app.files}  # see files.pairing: nothing says that they were
    pointer = manifest.point(structs.replace(snapshot, beside=unsaved), None, lease.epoch)
    current = await remote_database.current()
    if current is None or current.pointer is not None or current.owner != lease.epoch or not lease.valid():
        raise StoreUnavailable(f"current.json of {database} has been changed just now")
    try:
        await remote_database.point(pointer, current)
    except ConditionFailed as error:
        raise StoreUnavailable(f"current.json of {database} has been changed just now") from error
    database.log_event("warning", "an unpublished snapshot is adopted", version=manifest.version(snapshot.key))
    return pointer
