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
from flyatc.databases import local_files, manifest, restore
from flyatc.databases.database import Database
from flyatc.databases.litestream import replica_restore
from flyatc.databases.litestream.client import LitestreamMissing
from flyatc.databases.litestream.replica_layout import Line, Lines, fault, prefix
from flyatc.databases.litestream.replica_restore import LitestreamContext, listed
from flyatc.databases.litestream.restore_plan import Plan, PlanInput, RestoreLine, RestoreSnapshotOrLine, Saved, plan
from flyatc.databases.litestream.stream import forget
from flyatc.databases.litestream.streamed_database import StreamedDatabase
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer
from flyatc.databases.remote import Current
from flyatc.databases.restore import Seeds
from flyatc.databases.restore_failures import Cause
from flyatc.databases.restore_plan import Create, Keep, Refuse, Restore
from flyatc.databases.transfer import Restored
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import Progress, silent


@dataclass(frozen=True)
class Survey:
    database: Database
    plan: Plan
    pointer: Pointer | None  # of the newest snapshot, if there is one
    renewal: int  # of the line which is ours to write
    marked: bool  # current.json says that it is streamed


async def make_whole(
    tenant: Tenant, databases: list[Database], record: Record, seeds: Seeds, context: LitestreamContext
) -> list[StreamedDatabase]:
    """All are as the store has them, or newer; all stream; the record says that they are in use.

    Raises RestoreRefused; StoreUnavailable, OSError, and what ``Lease.raise_epoch`` raises."""
    begun = tasks.start(_begun(context), "start of litestream")  # while the databases are restored
    surveys = await tasks.every((_survey(database, context) for database in databases), "survey")
    refused = [f"{s.database}: {s.plan.reason}" for s in surveys if isinstance(s.plan, Refuse)]
    if refused:
        raise RestoreRefused("; ".join(refused))
    async with context.tools.workplace(tenant.data / ".flyatc", "restore") as place:
        arrivals = await tasks.every((_prepare(s, seeds, place, context) for s in surveys), "restore")
        settle = _settle(surveys, arrivals, record, context)
        await tasks.to_the_end(tasks.start(settle, f"settle {tenant.address}"))
    if (missing := await begun) is not None:
        raise RestoreRefused(missing)
    return await attach(databases, context, frozenset(s.database.name for s in surveys if s.marked))


async def _begun(context: LitestreamContext) -> str | None:
    """Why there can be no litestream."""
    try:
        await context.engine.begin()
    except LitestreamMissing as error:
        return str(error)
    return None


async def attach(
    databases: list[Database], context: LitestreamContext, marked: frozenset[str]
) -> list[StreamedDatabase]:
    """From now on what is there, and what comes, goes to the store; nobody waits for it. The record tells where to.
    ``marked``: the names of those whose current.json says that they are streamed.

    Raises RestoreRefused: then nothing is attached."""
    streams = [StreamedDatabase(database, context, marked=database.name in marked) for database in databases]
    try:
        await tasks.every((stream.begin() for stream in streams), "attach")
    except BaseException as error:
        await tasks.to_the_end(tasks.start(_detach(streams), "detach"))
        if isinstance(error, SaveFailed):
            raise RestoreRefused(f"{error}. It is not started: what it wrote could be lost") from error
        raise
    return streams


async def _detach(streams: list[StreamedDatabase]) -> None:
    await asyncio.gather(*(stream.detach() for stream in streams))


# --- ask ---


async def _survey(database: Database, context: LitestreamContext) -> Survey:
    for text in (str(database.path), context.storage.url):
        if reason := fault(text):
            raise RestoreRefused(f"{database}: {reason}")
    here = await context.tools.quick.run(partial(local_files.look, database.path))
    found = await listed(database, context.store)
    current = await take_over(database, found)
    pointer = current.pointer if current is not None else None
    asked = PlanInput(
        here=here,
        entry=database.entry,
        touched=database.unsaved,
        former=database.owned.former,
        epoch=database.owned.epoch,
        lines=found,
        saved=await saved_of(database, current, context),
        strays=() if pointer is not None or found.found else tuple(await database.remote.snapshots()),
        current=database.owned.line,
    )
    return Survey(database, plan(asked), pointer, renewal_of(database, found), may_be_streamed(current))


async def take_over(database: Database, found: Lines) -> Current | None:
    """The store's pointer as it was. From now on it bears our epoch, and that litestream writes where that may be.
    Raises StoreUnavailable, and what ``Lease.raise_epoch`` raises."""
    if found.last is not None and found.last.number > database.owned.epoch:
        await database.owned.raise_epoch(found.last.number)  # an owner's record which was lost counts anew
    return await restore.take_over(database, may_be_streamed)


def may_be_streamed(current: Current | None) -> bool:
    """It is new, or was streamed before."""
    return current is None or current.pointer is None or current.streamed or current.pointer.position is not None


def renewal_of(database: Database, found: Lines) -> int:
    """The last of our line which the store has, or which may be on its way there."""
    line, entry = database.owned.line, database.entry
    known = [one.renewal for one in found.found if one.number == line]
    return max([*known, entry.renewal if entry.line == line else 0])


async def saved_of(database: Database, current: Current | None, context: LitestreamContext) -> Saved | None:
    pointer = current.pointer if current is not None else None
    if current is None or pointer is None:
        return None
    modified, alone = manifest.saved_at(pointer), not current.streamed
    if pointer.position is None:
        stored = await context.store.head(f"{prefix(database.tenant, database.name)}{pointer.key}")
        modified = stored.modified if stored is not None else modified
    return Saved(pointer.link, pointer.epoch, modified, alone, pointer.position)


# --- prepare ---


async def _prepare(survey: Survey, seeds: Seeds, place: Path, context: LitestreamContext) -> Restored | None:
    """What is to be put in place; None: what is here stays. Raises RestoreRefused."""
    database, pointer, tools = survey.database, survey.pointer, context.tools
    match survey.plan:
        case Keep(verify=True):
            await restore.verify(database, tools)
        case RestoreLine(line=line):
            return await bring(database, line, None, place, context, silent, pointer)
        case RestoreSnapshotOrLine(line=line) if pointer is not None:
            return await _bring_either(database, line, pointer, place, context)
        case Restore() if pointer is not None:
            return await restore.bring(database, pointer.key, pointer, place, tools, silent)
        case Create():
            return await _adopt(database, place, context) or await restore.begin(database, seeds, place, tools)
    return None


async def _bring_either(
    database: Database, line: Line, pointer: Pointer, place: Path, context: LitestreamContext
) -> Restored:
    """The snapshot; if that is damaged the stream, which is known to have the same. Raises as ``bring``."""
    try:
        return await restore.bring(database, pointer.key, pointer, place, context.tools, silent)
    except restore.SnapshotRefused as error:
        database.log_event(
            "error", "a snapshot is damaged: its stream, which has the same, is restored", error=str(error)
        )
    return await bring(database, line, None, place / "stream", context, silent, None)


async def bring(
    database: Database,
    line: Line,
    at: float | None,
    place: Path,
    context: LitestreamContext,
    progress: Progress,
    pointer: Pointer | None,
) -> Restored:
    """The database out of ``line``, as it was ``at`` that time (None: at the last). ``pointer``: an older snapshot, to
    be told of where the line is damaged. Raises RestoreRefused, restoring.NoSuchTime; StoreUnavailable, OSError."""
    began = monotonic()
    url = context.addresses.of_line(database.tenant, database.name, line.number, line.renewal)
    own = place / database.name.replace("/", "~")
    before = await listed(database, context.store)
    try:
        raw = await _restore(url, own, at, line.octets, context, progress, line.whole)
    except replica_restore.NoSuchTime:
        raise
    except replica_restore.NotRestored as error:
        if error.cause not in (Cause.DAMAGED, Cause.STORE_AWAY, Cause.UNKNOWN):
            raise _failed(database, line.name, error, pointer) from error
        # litestream itself removes old files, also under a restore that has just begun to read them (its issue 1270).
        if await listed(database, context.store) == before:
            raise _failed(database, line.name, error, pointer) from error
        try:
            raw = await _restore(url, own.with_name(f"{own.name}~2"), at, line.octets, context, progress, line.whole)
        except replica_restore.NotRestored as again:
            raise _failed(database, line.name, again, pointer) from again
    version = str(line.position) if at is None else line.name
    return Restored(raw, "restored", version, local_files.octets(raw), began)


async def _restore(
    url: str, own: Path, at: float | None, octets: int, context: LitestreamContext, progress: Progress, needed: int = 0
) -> Path:
    await context.tools.quick.run(partial(own.mkdir, parents=True))
    try:
        async with context.tools.restores:
            return await replica_restore.restore(url, own, at, octets, context, progress, needed)
    except LitestreamMissing as error:
        raise RestoreRefused(str(error)) from error


def _failed(
    database: Database, where: str, error: replica_restore.NotRestored, pointer: Pointer | None = None
) -> RestoreRefused:
    """Only a damaged replica is a reason for an earlier state."""
    if error.cause.passes:
        return RestoreRefused(f"{database} is not restored from {where}: {error.advice}")
    database.log_event("error", "a replica cannot be restored", replica=where, error=str(error))
    what = f"flyatc restore {database.tenant.address} {database.name}"
    older = ""
    if pointer is not None:
        older = f", or the last snapshot, saved {pointer.saved}: {what} --version {manifest.version(pointer.key)}"
    return RestoreRefused(
        f"{database}: its replica {where} cannot be restored: {error}. Nothing was overwritten, and nothing begins "
        f"empty. Try an earlier state: {what} --at TIME{older}"
    )


async def _adopt(database: Database, place: Path, context: LitestreamContext) -> Restored | None:
    """What another litestream has written, if anything. Raises RestoreRefused; StoreUnavailable, OSError."""
    began = monotonic()
    url = await replica_restore.find(database.tenant, database.name, context)
    if url is None:
        return None
    own = place / database.name.replace("/", "~")
    try:
        raw = await _restore(url, own, None, 0, context, silent)
    except replica_restore.NotRestored as error:
        where = url.partition("?")[0]
        if error.cause.passes:
            raise _failed(database, where, error) from error
        raise RestoreRefused(f"{database}: {where} cannot be restored: {error}. Nothing begins empty") from error
    return Restored(raw, "adopted", url.partition("?")[0], local_files.octets(raw), began)


# --- settle ---


async def _settle(
    surveys: list[Survey], arrivals: list[Restored | None], record: Record, context: LitestreamContext
) -> None:
    """Files first, then the record: a record of a file that is not there yet would let an older one pass."""
    for survey, arrival in zip(surveys, arrivals, strict=True):
        database, tools = survey.database, context.tools
        await tools.quick.run(partial(durable_files.make_folder, database.path.parent))
        await place_one(database, arrival, survey.plan, survey.renewal, context)
        if isinstance(survey.plan, Create) and arrival is None:
            await restore.clear(database, survey.plan.reason, tools)
        elif isinstance(survey.plan, Keep) and survey.plan.lost:
            database.log_event("warning", "the store has lost a database", reason=survey.plan.reason)
    await record.put({s.database.name: _entry(s) for s in surveys})


async def place_one(
    database: Database, arrival: Restored | None, decided: Plan, renewal: int, context: LitestreamContext
) -> None:
    """Never under a litestream that has it open; and what that remembers is of another file, or of another line."""
    await context.engine.detach(database.path)
    if arrival is not None:
        outdated = isinstance(decided, RestoreLine | RestoreSnapshotOrLine | Restore) and decided.outdated
        await restore.put_in_place(arrival, database, context.tools, decided.reason, outdated=outdated)
    if not isinstance(decided, Keep) or not _goes_on(database, renewal):
        await forget(database.path, context)


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
        case RestoreLine(line=line) | RestoreSnapshotOrLine(line=line):
            txid = line.txid if (line.number, line.renewal) == (owned.line, renewal) else 0
            return structs.replace(now, txid=txid, signature=local_files.signature(database.path), saved_at=line.until)
        case Restore() if pointer is not None:
            saved_at = manifest.saved_at(pointer)
            return structs.replace(now, signature=local_files.signature(database.path), saved_at=saved_at)
    return now
