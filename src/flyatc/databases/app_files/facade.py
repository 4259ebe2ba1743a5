"""Facade of the folders of files: hold and restore them together with the databases of a tenant."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import manifest
from flyatc.databases.app_files import opening, rollback, states
from flyatc.databases.app_files.folder import SavedFolder
from flyatc.databases.app_files.holder import FilesHolder, databases_of, set_aside
from flyatc.databases.app_files.manifest import SUFFIX
from flyatc.databases.autosave import AutoSaver
from flyatc.databases.database import Database
from flyatc.databases.decisions.version_choice import Choice, OrphanChoice
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry
from flyatc.databases.remote import Version
from flyatc.databases.restore import Seeds
from flyatc.databases.workers import Workers
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.ownership.lease import Lease

RollBack = Callable[[list[Database]], Awaitable[AutoSaver | Replication]]


def names(tenant: Tenant) -> list[str]:
    """Return the names of its databases and of its folders; those end with a slash."""
    return [*tenant.app.databases, *(f"{name}{SUFFIX}" for name in tenant.app.files)]


async def take(
    tenant: Tenant,
    held: AutoSaver | Replication,
    folders: Sequence[SavedFolder],
    record: Record,
    lease: Lease,
    seeds: Seeds,
    tools: Workers,
    interval: float,
) -> AutoSaver | Replication | FilesHolder:
    """Make the folders current, after the databases, which are held. If that fails, the databases are let go.

    Raises RestoreRefused, StoreUnavailable, OSError."""
    if not folders:
        return held
    try:
        found = await states.here(databases_of(held))
        await opening.make_whole(tenant, folders, found, record, seeds, tools)
        interrupted = await rollback.interrupted(tenant, tools)
    except BaseException:
        await held.leave()
        raise
    return FilesHolder(tenant, held, folders, record, lease, interval, interrupted)


async def restore(
    tenant: Tenant,
    named: str | None,
    chosen: Sequence[Database],
    choice: Choice,
    record: Record,
    lease: Lease,
    tools: Workers,
    roll_back: RollBack,
) -> list[str]:
    """Restore the databases (by ``roll_back``) and folders ``chosen``, and save them. ``named``: the only one, as asked
    for; None: all. Return sentences on the folders. Raises RestoreRefused, SaveFailed, StoreUnavailable, OSError."""
    folders = [one for one in chosen if isinstance(one, SavedFolder)]
    databases = [one for one in chosen if one not in folders]
    if isinstance(choice, str | OrphanChoice) and named is None and len(databases or folders) != 1:
        raise RestoreRefused(f"a version is of one database: name it ({', '.join(names(tenant))})")
    if isinstance(choice, OrphanChoice) and databases:
        folders = []  # what was set aside is of one of them
    found = await states.chosen(databases, choice) if databases else None
    async with rollback.fetched(tenant, folders, choice, found, record, tools) as fetched:
        held: AutoSaver | Replication | FilesHolder = await roll_back(databases)
        try:
            await fetched.settle()
        except BaseException:
            await held.leave()
            raise
    restored = [one.folder for one in fetched.ready]
    if restored and not isinstance(held, FilesHolder):
        held = FilesHolder(tenant, held, restored, record, lease, 0.0)
    if named is not None:
        for folder in restored:  # from now on it belongs to the databases as they are
            folder.unchanged = partial(_at_rest, tenant, record)
    await held.leave()
    return fetched.notes


def _at_rest(tenant: Tenant, record: Record) -> dict[str, str]:
    """Return the versions of databases that are saved, while nothing runs."""
    entries = {name: record.get(name) or Entry() for name in tenant.app.databases}
    there = {name: one.base.key for name, one in entries.items() if one.base is not None and not one.in_use}
    return {name: manifest.version(key) for name, key in there.items()}


async def give_up(folder: SavedFolder, reason: str) -> None:
    """Set aside what was not saved: another machine has taken over. Raises OSError."""
    try:
        await folder.look()
    except SaveFailed as error:
        reason = f"{reason}; {error}"
    if folder.unsaved:
        await set_aside(folder, reason)
        await folder.note(structs.replace(Entry(), epoch=folder.entry.epoch))


def notes(versions: Sequence[Version]) -> list[str]:
    """Return a sentence for each folder whose newest save and the newest version of a database do not belong together.
    ``versions``: of one tenant."""
    current = [one for one in versions if one.current]
    found = []
    for save in (one for one in current if one.database.endswith(SUFFIX)):
        for one in (one for one in current if not one.database.endswith(SUFFIX)):
            apart = save.saved - one.saved
            if one.beside.get(save.database) != save.id and save.beside.get(one.database) != one.id:
                how = "newer" if apart > 0 else "older"
                found.append(f"{save.database} {save.id} is {abs(apart):.0f} s {how} than {one.database} {one.id}")
    return found
