"""Restore a chosen version: it replaces the local copy, and the next save makes it the newest version. Or copy one
elsewhere, for a rehearsal or for the operator: the store is only read, so no lease is needed."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flyatc.config.schema import Tenant
from flyatc.databases import disk_space, links, local_files, manifest, orphaned_copies, restore, sqlite, transfer
from flyatc.databases.app_files import opening
from flyatc.databases.app_files.folder import SavedFolder
from flyatc.databases.app_files.index import Index
from flyatc.databases.app_files.pairing import Chosen
from flyatc.databases.database import Database
from flyatc.databases.decisions import version_choice
from flyatc.databases.decisions.version_choice import Choice, Moment, NoneSoOld, OrphanChoice
from flyatc.databases.litestream.backend import LitestreamBackend
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer
from flyatc.databases.remote import Current
from flyatc.databases.transfer import Restored
from flyatc.databases.workers import Workers
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import Progress, silent

RESERVE = 64 << 20  # bytes that a copy for an operator leaves free on the disk


@dataclass(frozen=True)
class _Pick:
    source: str | OrphanChoice  # a snapshot's name, or an orphaned copy
    pointer: Pointer | None  # the current one
    reason: str


async def roll_back(
    choice: Choice, tenant: Tenant, databases: list[Database], record: Record, tools: Workers, progress: Progress
) -> None:
    """Put the chosen content in place, and record it as in use and changed since the store's current version, so that
    the next save publishes it. All are verified before the first is put in place. Raises RestoreRefused."""
    picks = [await _pick(choice, one, await restore.take_over(one)) for one in databases]
    async with tools.workplace(tenant.data / ".flyatc", "restore") as place:
        arrivals = (_bring(*one, place, tools, progress) for one in zip(databases, picks, strict=True))
        await restore.put_all(tenant, arrivals, lambda found: _settle(databases, picks, found, record, tools))


async def _pick(choice: Choice, database: Database, current: Current | None) -> _Pick:
    pointer = current.pointer if current is not None else None
    reason = "requested by the operator"
    match choice:
        case None:
            if pointer is None:
                raise RestoreRefused(
                    f"{database}: the store has no current version of it. Nothing was changed; {_see(database)}"
                )
            return _Pick(pointer.key, pointer, reason)
        case OrphanChoice():
            return _Pick(choice, pointer, f"{reason}: it was set aside")
        case Moment():
            there = {key: stored.modified for key, stored in (await database.remote.snapshots()).items()}
            found = version_choice.newest(version_choice.saved_versions(pointer, there), choice.at)
            if isinstance(found, NoneSoOld):
                raise RestoreRefused(f"{database}: {found.reason}. Nothing was changed; {_see(database)}")
            return _Pick(found.key, pointer, f"{reason}: {found.reason}")
    key = f"{choice}{manifest.SUFFIX}"
    if key not in await database.remote.snapshots():
        raise RestoreRefused(f"{database} has no version {choice!r}. Nothing was changed; {_see(database)}")
    return _Pick(key, pointer, reason)


def _see(database: Database) -> str:
    return f"see flyatc history {database.tenant.address}"


async def _bring(database: Database, pick: _Pick, place: Path, tools: Workers, progress: Progress) -> Restored:
    if isinstance(pick.source, OrphanChoice):
        return await orphaned_copies.bring(database, pick.source.name, place, tools, progress)
    return await restore.bring(database, pick.source, pick.pointer, place, tools, progress)


async def _settle(
    databases: list[Database], picks: list[_Pick], arrivals: list[Restored], record: Record, tools: Workers
) -> None:
    entries = {}
    for database, pick, arrival in zip(databases, picks, arrivals, strict=True):
        pointer = pick.pointer
        same = pointer is not None and pick.source == pointer.key
        await restore.put_in_place(arrival, database, tools, pick.reason, outdated=_has(database, pick))
        entries[database.name] = Entry(
            base=pointer.link if pointer is not None else None,
            pending=database.entry.pending,  # one whose publication is undecided may be a base as well
            in_use=True,
            epoch=database.lease.epoch,
            signature=await tools.quick.run(partial(local_files.signature, database.path)) if same else None,
            saved_at=manifest.saved_at(pointer) if pointer is not None else None,
        )
    await record.put(entries)


def _has(database: Database, pick: _Pick) -> bool:
    """Return whether the local copy is the current version, unchanged, and what was chosen has the same content."""
    pointer = pick.pointer
    if pointer is None or not isinstance(pick.source, str):
        return False
    chosen = transfer.known(pointer, pick.source)
    same = chosen is not None and chosen.sha256 == pointer.sha256
    return same and database.entry.base == pointer.link and not database.unsaved


FOR_REHEARSAL = "for a rehearsal"


async def copy_newest(
    databases: Iterable[Database], folder: Path, streams: LitestreamBackend | None, tools: Workers
) -> None:
    """Put the newest versions of databases and folders where their ``path`` is, in a tenant's folder that nothing else
    uses. ``folder``: its ``.flyatc``. Raises RestoreRefused, StoreUnavailable, OSError."""
    async with tools.workplace(folder, "restore") as place:
        for one in databases:
            if isinstance(one, SavedFolder):
                await _put_folder(one, place, tools)
            elif (found := await _fetch(one, streams, place, tools)) is not None:
                await tools.quick.run(partial(local_files.put_in_place, found.raw, one.path, one.folder))


async def _fetch(database: Database, streams: LitestreamBackend | None, place: Path, tools: Workers) -> Restored | None:
    if streams is not None:
        return await streams.fetch(database, None, place, silent)
    current = await database.remote.current()
    pointer = current.pointer if current is not None else None
    if pointer is None:
        return None
    return await restore.bring(database, pointer.key, pointer, place, tools, silent)


async def copy_chosen(
    database: Database,
    choice: Choice,
    place: Path,
    streams: LitestreamBackend | None,
    tools: Workers,
    progress: Progress,
) -> Path:
    """Make a checked copy of what the store has of a database, or of the local file where that is newer and unsaved.
    Raises RestoreRefused, StoreUnavailable, OSError."""
    current, entry = await database.remote.current(), database.entry
    if choice is None and entry.in_use and (current is None or current.owner <= entry.epoch):
        return await copy_local(database.tenant, database.name, place, tools, progress, keep_wal=False)
    if streams is not None:
        return (await streams.fetch(database, choice, place, progress)).raw
    pick = await _pick(choice, database, current)
    return (await _bring(database, pick, place, tools, progress)).raw


async def copy_local(
    tenant: Tenant, name: str, place: Path, tools: Workers, progress: Progress, *, keep_wal: bool
) -> Path:
    """Make a checked copy of the local file, which its app may be writing. ``keep_wal``: see ``sqlite.copy``. Raises
    RestoreRefused, OSError."""
    path, copy = tenant.data / name, place / "copy"
    if not path.exists():
        raise RestoreRefused(f"{tenant.address}: {name} does not exist yet")
    links.refuse(tenant.data, [name])
    needed = local_files.size(path) + local_files.wal_size(path) + RESERVE
    try:
        with disk_space.require_free_space(f"{tenant.address}: the copy of {name}", place, needed):
            copying = partial(sqlite.copy, path, copy, data=tenant.data, keep_wal=keep_wal)
            await tools.heavy.watch(copying, "copy", progress)
        await tools.heavy.run(partial(sqlite.check_still, copy))
    except sqlite.Unusable as error:
        raise RestoreRefused(f"{tenant.address}: {name} cannot be copied: {error}") from error
    return copy


async def _put_folder(folder: SavedFolder, place: Path, tools: Workers) -> None:
    current = await folder.remote.current()
    pointer = current.pointer if current is not None else None
    saves = await opening.listed(folder, pointer) if pointer is not None else []
    if saves:
        arrival = await opening.bring(folder, Chosen(saves[0], "it is the newest"), None, place, tools)
        await opening.put(folder, arrival, tools, FOR_REHEARSAL, Index(), keep=False)
