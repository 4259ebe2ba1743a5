"""States of a tenant's databases, to find the saves of its folders that belong to them (``pairing``)."""

from collections.abc import Iterable

from flyatc.databases import manifest
from flyatc.databases.app_files.pairing import State
from flyatc.databases.database import Database
from flyatc.databases.decisions import version_choice
from flyatc.databases.decisions.version_choice import Choice, Moment, Picked
from flyatc.databases.manifest import Pointer, Snapshot


async def here(databases: Iterable[Database]) -> list[State]:
    """Return their states after they were made current, before an app runs. Raises StoreUnavailable."""
    return [await _here(database) for database in databases]


async def _here(database: Database) -> State:
    current, entry = await database.remote.current(), database.entry
    ids = {database.restored} if database.restored is not None else set()
    if not ids and entry.base is not None and not database.unsaved:
        ids = {manifest.version(entry.base.key)}
    return _state(database.name, ids, current.pointer if current is not None else None, entry.saved_at)


async def chosen(databases: Iterable[Database], choice: Choice) -> list[State]:
    """Return the states that ``choice`` brings. Raises StoreUnavailable."""
    return [await _chosen(database, choice) for database in databases]


async def _chosen(database: Database, choice: Choice) -> State:
    current = await database.remote.current()
    pointer = current.pointer if current is not None else None
    at, ids = None, set()
    match choice:
        case None if pointer is not None and current is not None and not current.streamed:
            ids, at = {manifest.version(pointer.key)}, manifest.saved_at(pointer)
        case Moment():
            at = choice.at
            if current is None or not current.streamed:
                there = {key: stored.modified for key, stored in (await database.remote.snapshots()).items()}
                picked = version_choice.newest(version_choice.saved_versions(pointer, there), choice.at)
                ids = {manifest.version(picked.key)} if isinstance(picked, Picked) else set()
        case str():
            ids = {choice}
    return _state(database.name, ids, pointer, at)


def _state(name: str, ids: set[str], pointer: Pointer | None, at: float | None) -> State:
    """Add what the pointer says of this version, or of the one at this position in the stream."""
    snapshot = next((one for one in _listed(pointer) if _is(one, ids)), None)
    if snapshot is None:
        return State(name, frozenset(ids), None, at)
    same = {manifest.version(snapshot.key), *([str(snapshot.position)] if snapshot.position is not None else [])}
    return State(name, frozenset(ids | same), snapshot.beside, manifest.saved_at(snapshot) if at is None else at)


def _listed(pointer: Pointer | None) -> list[Snapshot]:
    return [] if pointer is None else [pointer.snapshot, *pointer.previous]


def _is(snapshot: Snapshot, ids: set[str]) -> bool:
    return manifest.version(snapshot.key) in ids or (snapshot.position is not None and str(snapshot.position) in ids)
