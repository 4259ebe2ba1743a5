"""Make the databases of a tenant current before its app starts: all of them, or nothing changes.

Survey (local file, record, store) → plan → fetch and verify beside → if no plan refuses, put in place.
"""

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import disk_space, local_files, manifest, orphaned_copies, remote, sqlite, transfer
from flyatc.databases.database import Database, unused_if_cut_short
from flyatc.databases.decisions.keep_or_restore import (
    Adopt,
    Create,
    Current,
    Here,
    Keep,
    Nothing,
    Plan,
    Refuse,
    Restore,
    Streamed,
    There,
    Unknown,
    plan,
)
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer, Position
from flyatc.databases.transfer import Restored
from flyatc.databases.workers import Workers
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable

R = TypeVar("R", Restored, Restored | None)

ATTEMPTS = 5  # to stamp a pointer that others change meanwhile

Seeds = Callable[[str], Path | None]  # of a database's name
LastStreamed = Callable[[Database], Awaitable[Position | None]]  # what litestream has written; None: nothing


@dataclass(frozen=True)
class Survey:
    database: Database
    plan: Plan
    pointer: Pointer | None
    raw: Path | None = None  # the verified content of ``pointer``, if already fetched


class SnapshotRefused(RestoreRefused):
    """The snapshot itself is damaged."""


@contextlib.contextmanager
def refusing(tenant: Tenant) -> Iterator[None]:
    """Turn errors of the disk and the store into RestoreRefused."""
    try:
        yield
    except OSError as error:
        raise disk_space.restore_refusal(tenant.address, error, disk_space.free_space_or_none(tenant.data)) from error
    except StoreUnavailable as error:
        raise RestoreRefused(f"{tenant.address}: {error}. Nothing was changed; try again later") from error


async def make_whole(
    tenant: Tenant, databases: list[Database], record: Record, seeds: Seeds, streamed: LastStreamed, tools: Workers
) -> None:
    """Make all databases as the store has them, or newer, and record that they are in use.

    Raises RestoreRefused; StoreUnavailable, OSError."""
    surveys = await tasks.every((_survey(database, streamed, tools) for database in databases), "survey")
    raise_refusals((one.database, one.plan) for one in surveys)
    place_of = tools.workplace(tenant.data / ".flyatc", "restore")
    async with unused_if_cut_short(databases, record), place_of as place:
        surveys = await tasks.every((_adopted(s, place, tools) for s in surveys), "adopt")
        arrivals = (_prepare(one, seeds, place, tools) for one in surveys)
        await put_all(tenant, arrivals, lambda found: _settle(surveys, found, record, tools))


def raise_refusals(plans: Iterable[tuple[Database, object]]) -> None:
    """Raise RestoreRefused if a plan refuses; it names all of them."""
    if refused := [f"{database}: {plan.reason}" for database, plan in plans if isinstance(plan, Refuse)]:
        raise RestoreRefused("; ".join(refused))


async def put_all(
    tenant: Tenant, arrivals: Iterable[Coroutine[Any, Any, R]], settle: Callable[[list[R]], Coroutine[Any, Any, None]]
) -> None:
    """Make all ``arrivals``, verified files; only when all are there, ``settle`` puts them in place and records it. It
    is quick, and not cancelled: a partial record would cause needless orphans."""
    found = await tasks.every(arrivals, "restore")
    await tasks.to_the_end(tasks.start(settle(found), f"settle {tenant.address}"))


async def _survey(database: Database, streamed: LastStreamed, tools: Workers) -> Survey:
    here = await tools.quick.run(partial(local_files.look, database.path))
    there, pointer = await ask(database, streamed)
    lease, entry = database.lease, database.entry
    sole = lease.previous.clean or lease.last_writer(entry.epoch)
    return Survey(database, plan(here, entry, there, touched=database.unsaved, sole=sole), pointer)


async def ask(database: Database, streamed: LastStreamed) -> tuple[There, Pointer | None]:
    """Take the store's pointer over, and return what the store has. Raises OwnershipUnknown."""
    try:
        current = await take_over(database)
        pointer = current.pointer if current is not None else None
        if current is not None and current.streamed and not await _has_all(database, pointer, streamed):
            return Streamed(), pointer
        if pointer is not None:
            return Current(pointer.link), pointer
        return await nothing(database, current), None
    except StoreUnavailable as error:
        return Unknown(str(error)), None


async def nothing(database: Database, current: remote.Current | None) -> Nothing:
    """Return what the store has without a pointer to it. ``current``: as it was before it was taken over."""
    strays = tuple(await database.remote.snapshots())
    return Nothing(strays, *((current.began, current.owner) if current is not None else (0, 0)))


async def _has_all(database: Database, pointer: Pointer | None, streamed: LastStreamed) -> bool:
    """Return whether litestream has written nothing since this snapshot."""
    if pointer is None or pointer.position is None:
        return False
    last = await streamed(database)
    return last is None or last <= pointer.position


async def take_over(
    database: Database, streamed: Callable[[remote.Current | None], bool] = lambda current: False
) -> remote.Current | None:
    """Stamp the store's pointer with our epoch, so that pending writes of an earlier holder fail; return the pointer.
    ``streamed``: whether to mark also that litestream may have newer content.

    Raises StoreUnavailable, OwnershipUnknown."""
    remote_database, lease = database.remote, database.lease
    for _ in range(ATTEMPTS):
        current = await remote_database.current()
        owner = current.owner if current is not None else 0
        if owner > lease.epoch:
            await lease.raise_epoch(owner)
        mark = streamed(current)
        if owner == lease.epoch and not (mark and (current is None or not current.streamed)):
            return current
        began = await _began(database, current)
        with contextlib.suppress(ConditionFailed):  # an earlier holder's save has just arrived: read again
            await remote_database.stamp(current, lease.epoch, began=began, streamed=True if mark else None)
            return current
    raise StoreUnavailable(f"current.json of {database} changes all the time: another machine is writing")


async def _began(database: Database, current: remote.Current | None) -> int:
    """Return ``began``: our epoch if there is no snapshot yet, so that all later ones are known to follow; else 0."""
    if current is not None and (current.pointer is not None or current.began):
        return 0
    return 0 if await database.remote.snapshots() else database.lease.epoch


async def _adopted(survey: Survey, place: Path, tools: Workers) -> Survey:
    """Carry out Adopt; return the new survey. Raises RestoreRefused; StoreUnavailable, OSError."""
    if not isinstance(survey.plan, Adopt):
        return survey
    return Survey(survey.database, *await adopt(survey.database, survey.plan, place, tools))


async def adopt(
    database: Database, decided: Adopt, place: Path, tools: Workers
) -> tuple[Restore | Keep | Create, Pointer | None, Path | None]:
    """Publish the first complete snapshot of those that were never named; return the plan that is left, with the
    pointer and the file to put in place. Raises RestoreRefused; StoreUnavailable, OSError."""
    async with tools.restores:
        found = await transfer.adopt_unpublished(
            database, decided.keys, place / f"{segment_of(database.name)}~new", tools
        )
    if found is None:
        database.log_event("warning", "the first save cannot be recovered", reason=decided.otherwise.reason)
        return decided.otherwise, None, None
    pointer, raw = found
    return Restore(f"{decided.reason}: {manifest.version(pointer.key)} is complete"), pointer, raw


async def _prepare(survey: Survey, seeds: Seeds, place: Path, tools: Workers) -> Restored | None:
    """Return the file to put in place; None: the local file stays. Raises RestoreRefused."""
    database, pointer = survey.database, survey.pointer
    match survey.plan:
        case Keep(verify=True):
            await verify(database, tools)
        case Restore() if pointer is not None and survey.raw is not None:
            return Restored(survey.raw, "restored", manifest.version(pointer.key), pointer.size, monotonic())
        case Restore() if pointer is not None:
            return await bring(database, pointer.key, pointer, place, tools, silent)
        case Create():
            return await begin(database, seeds, place, tools)
    return None


async def begin(database: Database, seeds: Seeds, place: Path, tools: Workers) -> Restored | None:
    """Return the initial content of a new database: another program's copy, or the seed; None: neither. Raises
    RestoreRefused; StoreUnavailable, OSError."""
    adopted = None
    if tools.adopt is not None:
        adopted = await transfer.adopt(tools.adopt, database, place, tools)
    return adopted or await copy_seed(database.path, database.name, seeds, place, tools)


async def verify(database: Database, tools: Workers) -> None:
    try:
        await tools.heavy.run(partial(sqlite.check_local, database.path))
    except sqlite.Unusable as error:
        raise RestoreRefused(
            f"{database} was not closed cleanly and is damaged: {error}. Nothing was overwritten. Repair it with "
            f"sqlite3's .recover, or take the store's version: flyatc restore {database.tenant.address} {database.name}"
        ) from error


async def bring(
    database: Database, key: str, pointer: Pointer | None, place: Path, tools: Workers, progress: Progress
) -> Restored:
    """Fetch and verify the snapshot ``key``. Raises RestoreRefused, StoreUnavailable, OSError."""
    began = monotonic()
    own, known = place / segment_of(database.name), transfer.known(pointer, key)
    needed = known.size + known.compressed if known is not None else 0
    await tools.quick.run(own.mkdir)
    try:
        async with tools.restores:
            with disk_space.require_free_space(str(database), place, needed):
                raw = await transfer.fetch(database.remote, key, known, own, tools, progress)
    except transfer.SnapshotDamaged as error:
        advice = transfer.older_version_advice(pointer, key, database) if pointer is not None else "Choose another one"
        raise SnapshotRefused(
            f"{database}: the snapshot {manifest.version(key)} is damaged: {error}. Nothing was overwritten. {advice}"
        ) from error
    return Restored(raw, "restored", manifest.version(key), local_files.size(raw), began)


async def copy_seed(path: Path, name: str, seeds: Seeds, place: Path, tools: Workers) -> Restored | None:
    """Make a checked copy of the seed; None: there is none. Raises RestoreRefused."""
    began, seed = monotonic(), seeds(name)
    if seed is None:
        return None
    raw = place / segment_of(name)
    try:
        await tools.heavy.run(partial(local_files.copy_seed, seed, raw))
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except (OSError, ValueError, sqlite.Unusable) as error:
        raise RestoreRefused(f"{path}: its seed {seed} cannot be used: {error}") from error
    return Restored(raw, "seeded", None, local_files.size(raw), began)


async def put_in_place(
    arrival: Restored, database: Database, tools: Workers, reason: str, *, outdated: bool = False
) -> None:
    """Replace the local file. ``outdated``: it is a version that the store has had, so it is deleted, not set aside."""
    aside = await tools.quick.run(partial(local_files.put_in_place, arrival.raw, database.path, database.folder))
    if aside is not None and outdated:
        await tools.quick.run(partial(local_files.remove, aside))
    elif aside is not None:
        orphaned_copies.log_and_send(database, aside, tools, reason)
    database.restored = arrival.version
    ms = round((monotonic() - arrival.began) * 1000)
    database.log_event("info", arrival.message, version=arrival.version, size=arrival.size, ms=ms, reason=reason)


async def _settle(surveys: list[Survey], arrivals: list[Restored | None], record: Record, tools: Workers) -> None:
    """Put files in place, then write the record: the other order could vouch for an older file after a crash."""
    for survey, arrival in zip(surveys, arrivals, strict=True):
        database = survey.database
        await tools.quick.run(partial(durable_files.make_folder, database.path.parent))
        if arrival is not None:
            outdated = isinstance(survey.plan, Restore) and survey.plan.outdated
            await put_in_place(arrival, database, tools, survey.plan.reason, outdated=outdated)
        elif isinstance(survey.plan, Create):
            await clear(database, survey.plan.reason, tools)
        elif isinstance(survey.plan, Keep) and survey.plan.lost:
            database.log_event("warning", "the store has lost a database", reason=survey.plan.reason)
    await record.put(
        {s.database.name: structs.replace(_entry(s), in_use=True, epoch=s.database.lease.epoch) for s in surveys}
    )


async def clear(database: Database, reason: str, tools: Workers) -> None:
    """Prepare for a database that the app creates: set aside a WAL left by another one."""
    aside = await tools.quick.run(partial(local_files.set_aside, database.path, database.folder))
    if aside is not None:
        database.log_event("warning", "files of SQLite without their database were set aside", path=str(aside))
    database.log_event("info", "a new database", reason=reason)


def _entry(survey: Survey) -> Entry:
    """Return the record entry of the database after its plan was carried out."""
    entry, pointer = survey.database.entry, survey.pointer
    match survey.plan:
        case Keep(anew=True):
            base = pointer.link if pointer is not None else None
            return Entry(base=base, saved_at=entry.saved_at, line=entry.line)
        case Keep() if pointer is None:
            return structs.replace(entry, base=None, signature=None)
        case Keep() if pointer is not None and pointer.link != entry.base:  # published, but the response was lost
            return structs.replace(entry, base=pointer.link, signature=None)
        case Keep():
            return entry
        case Restore() if pointer is not None:
            seen = local_files.signature(survey.database.path)
            return Entry(base=pointer.link, signature=seen, saved_at=manifest.saved_at(pointer))
    return Entry()


async def make_local(tenant: Tenant, seeds: Seeds, tools: Workers) -> None:
    """Prepare databases without a store: keep existing files, seed missing ones or leave them to the app.

    Raises RestoreRefused; OSError."""
    folder = tenant.data / ".flyatc"
    async with tools.workplace(folder, "restore") as place:
        for name in tenant.app.databases:
            path = tenant.data / name
            await tools.quick.run(partial(durable_files.make_folder, path.parent))
            if await tools.quick.run(partial(local_files.look, path)) is Here.ABSENT:
                arrival = await copy_seed(path, name, seeds, place, tools)
                if arrival is not None:
                    await tools.quick.run(partial(local_files.put_in_place, arrival.raw, path, folder))


async def refuse_known(database: Database) -> None:
    """Raise RestoreRefused if the store has a database of this name: then the local one is not its successor; or if
    this machine may not write now."""
    if not database.lease.valid():
        raise RestoreRefused(f"{database} is not saved: this machine may not write at this moment")
    current = await database.remote.current()
    ours = current is None or (current.pointer is None and current.owner == database.lease.epoch)
    if not ours or await database.remote.snapshots():
        raise RestoreRefused(f"{database} is not saved: the store has another database of this name")
