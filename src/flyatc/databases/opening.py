"""Making the databases of a tenant whole before its app starts: all of them, or nothing changes.

Ask (here, record, store) → plan → fetch and verify beside → only then, if nobody refused, put in place.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import adopting, fetch, files, lineage, orphans, room, snapshot, sqlite, unpublished
from flyatc.databases.arrival import Arrival
from flyatc.databases.database import Database
from flyatc.databases.lineage import Entry, Pointer, Position
from flyatc.databases.owned import last_writer
from flyatc.databases.plan import (
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
from flyatc.databases.record import Record
from flyatc.databases.tools import Tools
from flyatc.kit import durable, tasks
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.progress import Progress, silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable

ATTEMPTS = 5  # to stamp a pointer which others change meanwhile

Seeds = Callable[[str], Path | None]  # of a database's name
LastStreamed = Callable[[Database], Awaitable[Position | None]]  # what litestream has sent; None: nothing


@dataclass(frozen=True)
class Survey:
    database: Database
    plan: Plan
    pointer: Pointer | None
    raw: Path | None = None  # the verified content of ``pointer``, where it was fetched already


class SnapshotRefused(RestoreRefused):
    """The snapshot itself is damaged."""


@contextlib.contextmanager
def refusing(tenant: Tenant) -> Iterator[None]:
    """What the disk or the store says becomes RestoreRefused."""
    try:
        yield
    except OSError as error:
        raise room.refused(tenant.address, error, room.seen(tenant.data)) from error
    except StoreUnavailable as error:
        raise RestoreRefused(f"{tenant.address}: {error}. Nothing was changed; try again later") from error


async def make_whole(
    tenant: Tenant, databases: list[Database], record: Record, seeds: Seeds, streamed: LastStreamed, tools: Tools
) -> None:
    """All are as the store has them, or newer; the record says that they are in use.

    Raises RestoreRefused; StoreUnavailable, OSError."""
    surveys = await tasks.every((_survey(database, streamed, tools) for database in databases), "survey")
    refused = [f"{s.database}: {s.plan.reason}" for s in surveys if isinstance(s.plan, Refuse)]
    if refused:
        raise RestoreRefused("; ".join(refused))
    async with tools.workplace(tenant.data / ".flyatc", "restore") as place:
        surveys = await tasks.every((_adopted(s, place, tools) for s in surveys), "adopt")
        arrivals = await tasks.every((_prepare(s, seeds, place, tools) for s in surveys), "restore")
        settle = _settle(surveys, arrivals, record, tools)  # quick; a half-told record would cost a needless orphan
        await tasks.to_the_end(tasks.start(settle, f"settle {tenant.address}"))


async def _survey(database: Database, streamed: LastStreamed, tools: Tools) -> Survey:
    here = await tools.quick.run(partial(files.look, database.path))
    there, pointer = await _ask(database, streamed)
    owned, entry = database.owned, database.entry
    sole = owned.former.clean or last_writer(owned.former, owned.epoch, entry.epoch)
    return Survey(database, plan(here, entry, there, touched=database.unsaved, sole=sole), pointer)


async def _ask(database: Database, streamed: LastStreamed) -> tuple[There, Pointer | None]:
    try:
        current = await take_over(database)
        pointer = current.pointer if current is not None else None
        if current is not None and current.streamed and not await _has_all(database, pointer, streamed):
            return Streamed(), pointer
        if pointer is not None:
            return Current(pointer.link), pointer
        strays = tuple(await database.shelf.snapshots())
        return Nothing(strays, *((current.began, current.owner) if current is not None else (0, 0))), None
    except StoreUnavailable as error:
        return Unknown(str(error)), None


async def _has_all(database: Database, pointer: Pointer | None, streamed: LastStreamed) -> bool:
    """litestream has sent nothing since this snapshot."""
    if pointer is None or pointer.position is None:
        return False
    last = await streamed(database)
    return last is None or last <= pointer.position


async def take_over(
    database: Database, streamed: Callable[[snapshot.Current | None], bool] = lambda current: False
) -> snapshot.Current | None:
    """The store's pointer, which from now on bears our epoch: what an earlier owner has on its way fails. ``streamed``:
    whether it is also to say that litestream may have newer content.

    Raises StoreUnavailable, OwnershipUnknown."""
    shelf, owned = database.shelf, database.owned
    for _ in range(ATTEMPTS):
        current = await shelf.current()
        owner = current.owner if current is not None else 0
        if owner > owned.epoch:
            await owned.rise(owner)
        mark = streamed(current)
        if owner == owned.epoch and not (mark and (current is None or not current.streamed)):
            return current
        began = await _began(database, current)
        with contextlib.suppress(ConditionFailed):  # an earlier owner's save has landed just now: look again
            await shelf.stamp(current, owned.epoch, began=began, streamed=True if mark else None)
            return current
    raise StoreUnavailable(f"current.json of {database} changes all the time: somebody else is writing")


async def _began(database: Database, current: snapshot.Current | None) -> int:
    """For a blank pointer: our epoch if there is no snapshot yet, so that all which come are known to follow."""
    if current is not None and (current.pointer is not None or current.began):
        return 0
    return 0 if await database.shelf.snapshots() else database.owned.epoch


async def _adopted(survey: Survey, place: Path, tools: Tools) -> Survey:
    """The survey of what there is once Adopt is carried out. Raises RestoreRefused; StoreUnavailable, OSError."""
    if not isinstance(survey.plan, Adopt):
        return survey
    database, decided = survey.database, survey.plan
    async with tools.restores:
        found = await unpublished.adopt(database, decided.keys, place / f"{database.name.replace('/', '~')}~new", tools)
    if found is None:
        database.tell("warning", "the first save cannot be recovered", reason=decided.otherwise.reason)
        return Survey(database, decided.otherwise, None)
    pointer, raw = found
    return Survey(database, Restore(f"{decided.reason}: {lineage.version(pointer.key)} is complete"), pointer, raw)


async def _prepare(survey: Survey, seeds: Seeds, place: Path, tools: Tools) -> Arrival | None:
    """What is to be put in place; None: what is here stays. Raises RestoreRefused."""
    database, pointer = survey.database, survey.pointer
    match survey.plan:
        case Keep(verify=True):
            await verify(database, tools)
        case Restore() if pointer is not None and survey.raw is not None:
            return Arrival(survey.raw, "restored", lineage.version(pointer.key), pointer.size, monotonic())
        case Restore() if pointer is not None:
            return await bring(database, pointer.key, pointer, place, tools, silent)
        case Create():
            return await begin(database, seeds, place, tools)
    return None


async def begin(database: Database, seeds: Seeds, place: Path, tools: Tools) -> Arrival | None:
    """What a new database begins with: another program's copy, the seed; None: nothing. Raises RestoreRefused;
    StoreUnavailable, OSError."""
    adopted = None
    if tools.adopt is not None:
        adopted = await adopting.adopt(tools.adopt, database, place, tools)
    return adopted or await sow(database.path, database.name, seeds, place, tools)


async def verify(database: Database, tools: Tools) -> None:
    try:
        await tools.heavy.run(partial(sqlite.check_local, database.path))
    except sqlite.Unusable as error:
        raise RestoreRefused(
            f"{database} was not closed cleanly and is damaged: {error}. Nothing was overwritten. Repair it with "
            f"sqlite3's .recover, or take the store's version: flyatc restore {database.tenant.address} {database.name}"
        ) from error


async def bring(
    database: Database, key: str, pointer: Pointer | None, place: Path, tools: Tools, progress: Progress
) -> Arrival:
    """The snapshot ``key``, verified. Raises RestoreRefused, StoreUnavailable, OSError."""
    began = monotonic()
    own, known = place / database.name.replace("/", "~"), fetch.known(pointer, key)
    needed = known.size + known.compressed if known is not None else 0
    await tools.quick.run(own.mkdir)
    try:
        async with tools.restores:
            with room.enough(str(database), place, needed):
                raw = await fetch.fetch(database.shelf, key, known, own, tools, progress)
    except fetch.SnapshotDamaged as error:
        advice = fetch.instead(pointer, key, database) if pointer is not None else "Choose another one"
        raise SnapshotRefused(
            f"{database}: the snapshot {lineage.version(key)} is damaged: {error}. Nothing was overwritten. {advice}"
        ) from error
    return Arrival(raw, "restored", lineage.version(key), files.octets(raw), began)


async def sow(path: Path, name: str, seeds: Seeds, place: Path, tools: Tools) -> Arrival | None:
    """A checked copy of the seed; None: there is none. Raises RestoreRefused."""
    began, seed = monotonic(), seeds(name)
    if seed is None:
        return None
    raw = place / name.replace("/", "~")
    try:
        await tools.heavy.run(partial(files.copy_seed, seed, raw))
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except (OSError, ValueError, sqlite.Unusable) as error:
        raise RestoreRefused(f"{path}: its seed {seed} cannot be used: {error}") from error
    return Arrival(raw, "seeded", None, files.octets(raw), began)


async def put_in_place(
    arrival: Arrival, database: Database, tools: Tools, reason: str, *, outdated: bool = False
) -> None:
    """``outdated``: what is here is a version which the store has had: it is not kept."""
    aside = await tools.quick.run(partial(files.put_in_place, arrival.raw, database.path, database.folder))
    if aside is not None and outdated:
        await tools.quick.run(partial(files.remove, aside))
    elif aside is not None:
        orphans.tell(database, aside, tools, reason)
    ms = round((monotonic() - arrival.began) * 1000)
    database.tell("info", arrival.message, version=arrival.version, octets=arrival.octets, ms=ms, reason=reason)


async def _settle(surveys: list[Survey], arrivals: list[Arrival | None], record: Record, tools: Tools) -> None:
    """Files first, then the record: a record of a file that is not there yet would let an older one pass."""
    for survey, arrival in zip(surveys, arrivals, strict=True):
        database = survey.database
        await tools.quick.run(partial(durable.make_folder, database.path.parent))
        if arrival is not None:
            outdated = isinstance(survey.plan, Restore) and survey.plan.outdated
            await put_in_place(arrival, database, tools, survey.plan.reason, outdated=outdated)
        elif isinstance(survey.plan, Create):
            await clear(database, survey.plan.reason, tools)
        elif isinstance(survey.plan, Keep) and survey.plan.lost:
            database.tell("warning", "the store has lost a database", reason=survey.plan.reason)
    await record.put(
        {s.database.name: structs.replace(_entry(s), in_use=True, epoch=s.database.owned.epoch) for s in surveys}
    )


async def clear(database: Database, reason: str, tools: Tools) -> None:
    """The app makes it: a WAL of another one must not be waiting there."""
    aside = await tools.quick.run(partial(files.set_aside, database.path, database.folder))
    if aside is not None:
        database.tell("warning", "what SQLite keeps beside a database stood there alone: set aside", path=str(aside))
    database.tell("info", "a new database", reason=reason)


def _entry(survey: Survey) -> Entry:
    """What is true of the database now that its plan is carried out."""
    entry, pointer = survey.database.entry, survey.pointer
    match survey.plan:
        case Keep(anew=True):
            base = pointer.link if pointer is not None else None
            return Entry(base=base, saved_at=entry.saved_at, line=entry.line)
        case Keep() if pointer is None:
            return structs.replace(entry, base=None, signature=None)
        case Keep() if pointer is not None and pointer.link != entry.base:  # the publication whose answer was lost
            return structs.replace(entry, base=pointer.link, signature=None)
        case Keep():
            return entry
        case Restore() if pointer is not None:
            seen = files.signature(survey.database.path)
            return Entry(base=pointer.link, signature=seen, saved_at=lineage.saved_at(pointer))
    return Entry()


async def make_local(tenant: Tenant, seeds: Seeds, tools: Tools) -> None:
    """Without a store: what is here is the truth, what is not is seeded or left to the app.

    Raises RestoreRefused; OSError."""
    folder = tenant.data / ".flyatc"
    async with tools.workplace(folder, "restore") as place:
        for name in tenant.app.databases:
            path = tenant.data / name
            await tools.quick.run(partial(durable.make_folder, path.parent))
            if await tools.quick.run(partial(files.look, path)) is Here.ABSENT:
                arrival = await sow(path, name, seeds, place, tools)
                if arrival is not None:
                    await tools.quick.run(partial(files.put_in_place, arrival.raw, path, folder))
