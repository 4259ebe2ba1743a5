"""Making the databases of a tenant whole and streaming before its app starts: all of them, or nothing changes.

Ask (here, record, the store's lines) → plan → restore and check beside → only then, if nobody refused, put in place →
attach and confirm: from then on every transaction of the app goes to the store.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import files, lineage, opening
from flyatc.databases.arrival import Arrival
from flyatc.databases.causes import Cause
from flyatc.databases.database import Database
from flyatc.databases.lineage import Entry, Pointer
from flyatc.databases.litestream import adoption, restoring
from flyatc.databases.litestream.address import fault, prefix
from flyatc.databases.litestream.kept import Kept
from flyatc.databases.litestream.lines import Line, Lines
from flyatc.databases.litestream.listing import listed
from flyatc.databases.litestream.means import Means
from flyatc.databases.litestream.plan import Asked, Bring, Either, Plan, Saved, plan
from flyatc.databases.litestream.program import LitestreamMissing
from flyatc.databases.litestream.stream import forget
from flyatc.databases.opening import Seeds
from flyatc.databases.plan import Create, Keep, Refuse, Restore
from flyatc.databases.record import Record
from flyatc.databases.snapshot import Current
from flyatc.kit import durable, tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.progress import Progress, silent


@dataclass(frozen=True)
class Survey:
    database: Database
    plan: Plan
    pointer: Pointer | None  # of the newest snapshot, if there is one
    renewal: int  # of the line which is ours to write
    marked: bool  # current.json says that it is streamed


async def make_whole(
    tenant: Tenant, databases: list[Database], record: Record, seeds: Seeds, means: Means
) -> list[Kept]:
    """All are as the store has them, or newer; all stream; the record says that they are in use.

    Raises RestoreRefused; StoreUnavailable, OSError, and what ``Owned.rise`` raises."""
    begun = tasks.start(_begun(means), "start of litestream")  # while the databases are restored
    surveys = await tasks.every((_survey(database, means) for database in databases), "survey")
    refused = [f"{s.database}: {s.plan.reason}" for s in surveys if isinstance(s.plan, Refuse)]
    if refused:
        raise RestoreRefused("; ".join(refused))
    async with means.tools.workplace(tenant.data / ".flyatc", "restore") as place:
        arrivals = await tasks.every((_prepare(s, seeds, place, means) for s in surveys), "restore")
        settle = _settle(surveys, arrivals, record, means)
        await tasks.to_the_end(tasks.start(settle, f"settle {tenant.address}"))
    if (missing := await begun) is not None:
        raise RestoreRefused(missing)
    return await attach(databases, means, frozenset(s.database.name for s in surveys if s.marked))


async def _begun(means: Means) -> str | None:
    """Why there can be no litestream."""
    try:
        await means.engine.begin()
    except LitestreamMissing as error:
        return str(error)
    return None


async def attach(databases: list[Database], means: Means, marked: frozenset[str]) -> list[Kept]:
    """From now on what is there, and what comes, goes to the store; nobody waits for it. The record tells where to.
    ``marked``: the names of those whose current.json says that they are streamed.

    Raises RestoreRefused: then nothing is attached."""
    streams = [Kept(database, means, marked=database.name in marked) for database in databases]
    try:
        await tasks.every((stream.begin() for stream in streams), "attach")
    except BaseException as error:
        await tasks.to_the_end(tasks.start(_detach(streams), "detach"))
        if isinstance(error, SaveFailed):
            raise RestoreRefused(f"{error}. It is not started: what it wrote could be lost") from error
        raise
    return streams


async def _detach(streams: list[Kept]) -> None:
    await asyncio.gather(*(stream.detach() for stream in streams))


# --- ask ---


async def _survey(database: Database, means: Means) -> Survey:
    for text in (str(database.path), means.storage.url):
        if reason := fault(text):
            raise RestoreRefused(f"{database}: {reason}")
    here = await means.tools.quick.run(partial(files.look, database.path))
    found = await listed(database, means.store)
    current = await take_over(database, found)
    pointer = current.pointer if current is not None else None
    asked = Asked(
        here=here,
        entry=database.entry,
        touched=database.unsaved,
        former=database.owned.former,
        epoch=database.owned.epoch,
        lines=found,
        saved=await saved_of(database, current, means),
        strays=() if pointer is not None or found.found else tuple(await database.shelf.snapshots()),
        current=database.owned.line,
    )
    return Survey(database, plan(asked), pointer, renewal_of(database, found), may_be_streamed(current))


async def take_over(database: Database, found: Lines) -> Current | None:
    """The store's pointer as it was. From now on it bears our epoch, and that litestream writes where that may be.
    Raises StoreUnavailable, and what ``Owned.rise`` raises."""
    if found.last is not None and found.last.number > database.owned.epoch:
        await database.owned.rise(found.last.number)  # an owner's record which was lost counts anew
    return await opening.take_over(database, may_be_streamed)


def may_be_streamed(current: Current | None) -> bool:
    """It is new, or was streamed before."""
    return current is None or current.pointer is None or current.streamed or current.pointer.position is not None


def renewal_of(database: Database, found: Lines) -> int:
    """The last of our line which the store has, or which may be on its way there."""
    line, entry = database.owned.line, database.entry
    known = [one.renewal for one in found.found if one.number == line]
    return max([*known, entry.renewal if entry.line == line else 0])


async def saved_of(database: Database, current: Current | None, means: Means) -> Saved | None:
    pointer = current.pointer if current is not None else None
    if current is None or pointer is None:
        return None
    modified, alone = lineage.saved_at(pointer), not current.streamed
    if pointer.position is None:
        stored = await means.store.head(f"{prefix(database.tenant, database.name)}{pointer.key}")
        modified = stored.modified if stored is not None else modified
    return Saved(pointer.link, pointer.epoch, modified, alone, pointer.position)


# --- prepare ---


async def _prepare(survey: Survey, seeds: Seeds, place: Path, means: Means) -> Arrival | None:
    """What is to be put in place; None: what is here stays. Raises RestoreRefused."""
    database, pointer, tools = survey.database, survey.pointer, means.tools
    match survey.plan:
        case Keep(verify=True):
            await opening.verify(database, tools)
        case Bring(line=line):
            return await bring(database, line, None, place, means, silent, pointer)
        case Either(line=line) if pointer is not None:
            return await _bring_either(database, line, pointer, place, means)
        case Restore() if pointer is not None:
            return await opening.bring(database, pointer.key, pointer, place, tools, silent)
        case Create():
            return await _adopt(database, place, means) or await opening.begin(database, seeds, place, tools)
    return None


async def _bring_either(database: Database, line: Line, pointer: Pointer, place: Path, means: Means) -> Arrival:
    """The snapshot; if that is damaged the stream, which is known to have the same. Raises as ``bring``."""
    try:
        return await opening.bring(database, pointer.key, pointer, place, means.tools, silent)
    except opening.SnapshotRefused as error:
        database.tell("error", "a snapshot is damaged: its stream, which has the same, is restored", error=str(error))
    return await bring(database, line, None, place / "stream", means, silent, None)


async def bring(
    database: Database,
    line: Line,
    at: float | None,
    place: Path,
    means: Means,
    progress: Progress,
    pointer: Pointer | None,
) -> Arrival:
    """The database out of ``line``, as it was ``at`` that time (None: at the last). ``pointer``: an older snapshot, to
    be told of where the line is damaged. Raises RestoreRefused, restoring.NoSuchTime; StoreUnavailable, OSError."""
    began = monotonic()
    url = means.addresses.of_line(database.tenant, database.name, line.number, line.renewal)
    own = place / database.name.replace("/", "~")
    before = await listed(database, means.store)
    try:
        raw = await _restore(url, own, at, line.octets, means, progress, line.whole)
    except restoring.NoSuchTime:
        raise
    except restoring.NotRestored as error:
        if error.cause not in (Cause.DAMAGED, Cause.STORE_AWAY, Cause.UNKNOWN):
            raise _failed(database, line.name, error, pointer) from error
        # litestream itself removes old files, also under a restore that has just begun to read them (its issue 1270).
        if await listed(database, means.store) == before:
            raise _failed(database, line.name, error, pointer) from error
        try:
            raw = await _restore(url, own.with_name(f"{own.name}~2"), at, line.octets, means, progress, line.whole)
        except restoring.NotRestored as again:
            raise _failed(database, line.name, again, pointer) from again
    told = str(line.position) if at is None else line.name
    return Arrival(raw, "restored", told, files.octets(raw), began)


async def _restore(
    url: str, own: Path, at: float | None, octets: int, means: Means, progress: Progress, needed: int = 0
) -> Path:
    await means.tools.quick.run(partial(own.mkdir, parents=True))
    try:
        async with means.tools.restores:
            return await restoring.restore(url, own, at, octets, means, progress, needed)
    except LitestreamMissing as error:
        raise RestoreRefused(str(error)) from error


def _failed(
    database: Database, where: str, error: restoring.NotRestored, pointer: Pointer | None = None
) -> RestoreRefused:
    """Only a damaged replica is a reason for an earlier state."""
    if error.cause.passes:
        return RestoreRefused(f"{database} is not restored from {where}: {error.advice}")
    database.tell("error", "a replica cannot be restored", replica=where, error=str(error))
    what = f"flyatc restore {database.tenant.address} {database.name}"
    older = ""
    if pointer is not None:
        older = f", or the last snapshot, saved {pointer.saved}: {what} --version {lineage.version(pointer.key)}"
    return RestoreRefused(
        f"{database}: its replica {where} cannot be restored: {error}. Nothing was overwritten, and nothing begins "
        f"empty. Try an earlier state: {what} --at TIME{older}"
    )


async def _adopt(database: Database, place: Path, means: Means) -> Arrival | None:
    """What another litestream has written, if anything. Raises RestoreRefused; StoreUnavailable, OSError."""
    began = monotonic()
    url = await adoption.find(database.tenant, database.name, means)
    if url is None:
        return None
    own = place / database.name.replace("/", "~")
    try:
        raw = await _restore(url, own, None, 0, means, silent)
    except restoring.NotRestored as error:
        where = url.partition("?")[0]
        if error.cause.passes:
            raise _failed(database, where, error) from error
        raise RestoreRefused(f"{database}: {where} cannot be restored: {error}. Nothing begins empty") from error
    return Arrival(raw, "adopted", url.partition("?")[0], files.octets(raw), began)


# --- settle ---


async def _settle(surveys: list[Survey], arrivals: list[Arrival | None], record: Record, means: Means) -> None:
    """Files first, then the record: a record of a file that is not there yet would let an older one pass."""
    for survey, arrival in zip(surveys, arrivals, strict=True):
        database, tools = survey.database, means.tools
        await tools.quick.run(partial(durable.make_folder, database.path.parent))
        await place_one(database, arrival, survey.plan, survey.renewal, means)
        if isinstance(survey.plan, Create) and arrival is None:
            await opening.clear(database, survey.plan.reason, tools)
        elif isinstance(survey.plan, Keep) and survey.plan.lost:
            database.tell("warning", "the store has lost a database", reason=survey.plan.reason)
    await record.put({s.database.name: _entry(s) for s in surveys})


async def place_one(database: Database, arrival: Arrival | None, decided: Plan, renewal: int, means: Means) -> None:
    """Never under a litestream that has it open; and what that remembers is of another file, or of another line."""
    await means.engine.detach(database.path)
    if arrival is not None:
        outdated = isinstance(decided, Bring | Either | Restore) and decided.outdated
        await opening.put_in_place(arrival, database, means.tools, decided.reason, outdated=outdated)
    if not isinstance(decided, Keep) or not _goes_on(database, renewal):
        await forget(database.path, means)


def _goes_on(database: Database, renewal: int) -> bool:
    """The line which is to be written is the one in which the record knows of something."""
    entry = database.entry
    return (entry.line, entry.renewal) == (database.owned.line, renewal) and entry.txid > 0


def _entry(survey: Survey) -> Entry:
    """What is true of the database now that its plan is carried out. ``txid``: of the line which is ours."""
    database, renewal, pointer = survey.database, survey.renewal, survey.pointer
    owned, entry = database.owned, database.entry
    now = Entry(
        in_use=True,
        epoch=owned.epoch,
        line=owned.line,
        renewal=renewal,
        base=pointer.link if pointer is not None else None,
        skipped=entry.skipped,
    )
    match survey.plan:
        case Keep():
            txid = entry.txid if _goes_on(database, renewal) else 0
            return structs.replace(
                now,
                txid=txid,
                pending=entry.pending,
                signature=entry.signature,
                saved_at=entry.saved_at,
                doubted=entry.doubted,
            )
        case Bring(line=line) | Either(line=line):
            txid = line.txid if (line.number, line.renewal) == (owned.line, renewal) else 0
            return structs.replace(now, txid=txid, signature=files.signature(database.path), saved_at=line.until)
        case Restore() if pointer is not None:
            saved_at = lineage.saved_at(pointer)
            return structs.replace(now, signature=files.signature(database.path), saved_at=saved_at)
    return now
