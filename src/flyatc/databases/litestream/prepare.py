"""Make the databases of a tenant current and attach them before its app starts: all of them, or nothing changes.

Survey (local file, record, the store's lines) → plan → restore and check beside → if no plan refuses, put in place →
attach: from then on every transaction of the app goes to the store.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import local_files, manifest, restore
from flyatc.databases.database import Database, unused_if_cut_short
from flyatc.databases.decisions.keep_or_restore import Adopt, Create, Keep, Nothing, Restore
from flyatc.databases.decisions.restore_failures import Cause
from flyatc.databases.litestream import replica_restore
from flyatc.databases.litestream.client import LitestreamMissing
from flyatc.databases.litestream.database_stream import forget, written
from flyatc.databases.litestream.keep_or_restore import Plan, PlanInput, RestoreLine, RestoreSnapshotOrLine, Saved, plan
from flyatc.databases.litestream.replica_layout import Line, Lines, path_fault, prefix
from flyatc.databases.litestream.replica_restore import LitestreamContext, listed
from flyatc.databases.litestream.stream_or_snapshot import StreamedDatabase
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer
from flyatc.databases.remote import Current
from flyatc.databases.restore import Seeds
from flyatc.databases.transfer import Restored
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import Progress, silent


@dataclass(frozen=True)
class Survey:
    database: Database
    plan: Plan
    pointer: Pointer | None  # of the newest snapshot, if there is one
    renewal: int  # of the line that this machine writes
    marked: bool  # current.json says that it is streamed
    adopted: Path | None = None  # the file to put in place


async def make_whole(
    tenant: Tenant, databases: list[Database], record: Record, seeds: Seeds, context: LitestreamContext
) -> frozenset[str]:
    """Make all databases as the store has them, or newer, and record that they are in use: then ``attach`` them. Return
    the names of those whose current.json says that they are streamed.

    Raises RestoreRefused; StoreUnavailable, OSError, and the errors of ``Lease.raise_epoch``."""
    begun = tasks.start(begin(context), "start of litestream")  # while the databases are restored
    surveys = await tasks.every((_survey(database, context) for database in databases), "survey")
    restore.raise_refusals((one.database, one.plan) for one in surveys)
    async with unused_if_cut_short(databases, record):
        async with context.tools.workplace(tenant.data / ".flyatc", "restore") as place:
            surveys = await tasks.every((_adopted(one, place, context) for one in surveys), "adopt")
            arrivals = (_prepare(one, seeds, place, context) for one in surveys)
            await restore.put_all(tenant, arrivals, lambda found: _settle(surveys, found, record, context))
        if (missing := await begun) is not None:
            raise RestoreRefused(missing)
    return frozenset(s.database.name for s in surveys if s.marked)


async def begin(context: LitestreamContext) -> str | None:
    """Start litestream in the background, unless it runs; return the reason if there is none."""
    try:
        await context.engine.begin()
    except LitestreamMissing as error:
        return str(error)
    return None


async def attach(
    databases: list[Database], context: LitestreamContext, marked: frozenset[str]
) -> list[StreamedDatabase]:
    """Attach all: from now on present and later content goes to the store, in the background. The record names the
    line. ``marked``: the names of those whose current.json says that they are streamed.

    Raises RestoreRefused: then nothing is attached."""
    streams = [StreamedDatabase(database, context, marked=database.name in marked) for database in databases]
    try:
        await tasks.every((stream.begin() for stream in streams), "attach")
    except BaseException as error:
        await tasks.to_the_end(tasks.start(_detach(streams), "detach"))
        if isinstance(error, SaveFailed):
            raise RestoreRefused(f"{error}. It is not started: its writes could be lost") from error
        raise
    return streams


async def _detach(streams: list[StreamedDatabase]) -> None:
    await asyncio.gather(*(stream.detach() for stream in streams))


# --- survey ---


async def _survey(database: Database, context: LitestreamContext) -> Survey:
    for text in (str(database.tenant.data), context.storage.url):
        if reason := path_fault(text):
            raise RestoreRefused(f"{database}: {reason}")
    here = await context.tools.quick.run(partial(local_files.look, database.path))
    found = await listed(database, context.store)
    current = await take_over(database, found)
    pointer = current.pointer if current is not None else None
    asked = PlanInput(
        here=here,
        entry=database.entry,
        touched=database.unsaved,
        clean=database.lease.previous.clean,
        sole=database.lease.last_writer(database.entry.epoch),
        lines=found,
        saved=await saved_of(database, current, context),
        nothing=Nothing() if pointer is not None or found.found else await restore.nothing(database, current),
        current=database.lease.line_epoch,
        written=await written(database.path, context),
    )
    return Survey(database, plan(asked), pointer, renewal_of(database, found), may_be_streamed(current))


async def take_over(database: Database, found: Lines) -> Current | None:
    """Stamp the store's pointer with our epoch, and as streamed if that may be; return the pointer as it was. Raises
    StoreUnavailable, and the errors of ``Lease.raise_epoch``."""
    if found.last is not None and found.last.number > database.lease.epoch:
        await database.lease.raise_epoch(found.last.number)  # epochs restart after the loss of a lease record
    return await restore.take_over(database, may_be_streamed)


def may_be_streamed(current: Current | None) -> bool:
    """Return whether it is new, or was streamed before."""
    return current is None or current.pointer is None or current.streamed or current.pointer.position is not None


def renewal_of(database: Database, found: Lines) -> int:
    """Return the last renewal of our line that the store has, or may get."""
    line, entry = database.lease.line_epoch, database.entry
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


async def _adopted(survey: Survey, place: Path, context: LitestreamContext) -> Survey:
    """Carry out Adopt; return the new survey. Raises RestoreRefused; StoreUnavailable, OSError."""
    if not isinstance(survey.plan, Adopt):
        return survey
    decided, pointer, file = await restore.adopt(survey.database, survey.plan, place, context.tools)
    marked = survey.marked and file is None  # the pointer that was written is not marked
    return replace(survey, plan=decided, pointer=pointer, marked=marked, adopted=file)


async def _prepare(survey: Survey, seeds: Seeds, place: Path, context: LitestreamContext) -> Restored | None:
    """Return the file to put in place; None: the local file stays. Raises RestoreRefused."""
    database, pointer, tools = survey.database, survey.pointer, context.tools
    match survey.plan:
        case Keep(verify=True):
            await restore.verify(database, tools)
        case RestoreLine(line=line):
            return await bring(database, line, None, place, context, silent, pointer)
        case RestoreSnapshotOrLine(line=line) if pointer is not None:
            return await _bring_either(database, line, pointer, place, context)
        case Restore() if pointer is not None and survey.adopted is not None:
            version = manifest.version(pointer.key)
            return Restored(survey.adopted, "restored", version, pointer.size, monotonic())
        case Restore() if pointer is not None:
            return await restore.bring(database, pointer.key, pointer, place, tools, silent)
        case Create():
            return await _adopt(database, place, context) or await restore.begin(database, seeds, place, tools)
    return None


async def _bring_either(
    database: Database, line: Line, pointer: Pointer, place: Path, context: LitestreamContext
) -> Restored:
    """Fetch the snapshot, or, if it is damaged, the stream with the same content. Raises as ``bring``."""
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
    """Restore the database from ``line``, as of ``at`` (None: the last state). ``pointer``: an older snapshot, to be
    named if the line is damaged. Raises RestoreRefused, replica_restore.NoSuchTime; StoreUnavailable, OSError."""
    began = monotonic()
    url = context.addresses.of_line(database.tenant, database.name, line.number, line.renewal)
    own = place / segment_of(database.name)
    before = await listed(database, context.store)
    try:
        raw = await _restore(url, own, at, line.size, context, progress, line.whole)
    except replica_restore.NoSuchTime:
        raise
    except replica_restore.NotRestored as error:
        if error.cause not in (Cause.DAMAGED, Cause.STORE_AWAY, Cause.UNKNOWN):
            raise _failed(database, line.name, error, pointer) from error
        # litestream itself removes old files, even while a restore reads them (its issue 1270).
        if await listed(database, context.store) == before:
            raise _failed(database, line.name, error, pointer) from error
        try:
            raw = await _restore(url, own.with_name(f"{own.name}~2"), at, line.size, context, progress, line.whole)
        except replica_restore.NotRestored as again:
            raise _failed(database, line.name, again, pointer) from again
    version = str(line.position) if at is None else line.name
    return Restored(raw, "restored", version, local_files.size(raw), began)


async def _restore(
    url: str, own: Path, at: float | None, size: int, context: LitestreamContext, progress: Progress, needed: int = 0
) -> Path:
    await context.tools.quick.run(partial(own.mkdir, parents=True))
    try:
        async with context.tools.restores:
            return await replica_restore.restore(url, own, at, size, context, progress, needed)
    except LitestreamMissing as error:
        raise RestoreRefused(str(error)) from error


def _failed(
    database: Database, where: str, error: replica_restore.NotRestored, pointer: Pointer | None = None
) -> RestoreRefused:
    """Return the error to raise; it suggests an earlier state only if the replica is damaged."""
    if error.cause.passes:
        return RestoreRefused(f"{database} is not restored from {where}: {error.advice}")
    database.log_event("error", "a replica cannot be restored", replica=where, error=str(error))
    what = f"flyatc restore {database.tenant.address} {database.name}"
    older = ""
    if pointer is not None:
        older = f", or the last snapshot, saved {pointer.saved}: {what} --version {manifest.version(pointer.key)}"
    return RestoreRefused(
        f"{database}: its replica {where} cannot be restored: {error}. Nothing was overwritten, and no empty "
        f"database was created. Try an earlier state: {what} --at TIME{older}"
    )


async def _adopt(database: Database, place: Path, context: LitestreamContext) -> Restored | None:
    """Restore the replica of another litestream, if any. Raises RestoreRefused; StoreUnavailable, OSError."""
    began = monotonic()
    url = await replica_restore.find(database.tenant, database.name, context)
    if url is None:
        return None
    own = place / segment_of(database.name)
    try:
        raw = await _restore(url, own, None, 0, context, silent)
    except replica_restore.NotRestored as error:
        where = url.partition("?")[0]
        if error.cause.passes:
            raise _failed(database, where, error) from error
        raise RestoreRefused(
            f"{database}: {where} cannot be restored: {error}. No empty database was created"
        ) from error
    return Restored(raw, "adopted", url.partition("?")[0], local_files.size(raw), began)


# --- put in place ---


async def _settle(
    surveys: list[Survey], arrivals: list[Restored | None], record: Record, context: LitestreamContext
) -> None:
    """Put files in place, then write the record: the other order could vouch for an older file after a crash."""
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
    """Put one in place after detaching it, and remove litestream's local state of another file or line."""
    await context.engine.detach(database.path)
    if arrival is not None:
        outdated = isinstance(decided, RestoreLine | RestoreSnapshotOrLine | Restore) and decided.outdated
        await restore.put_in_place(arrival, database, context.tools, decided.reason, outdated=outdated)
    if not isinstance(decided, Keep) or not _goes_on(database, renewal):
        await forget(database.path, context)


def _goes_on(database: Database, renewal: int) -> bool:
    """Return whether the line to write is the one of the record, which has transactions in it."""
    entry = database.entry
    return (entry.line, entry.renewal) == (database.lease.line_epoch, renewal) and entry.txid > 0


def _entry(survey: Survey) -> Entry:
    """Return the record entry after the plan was carried out. ``txid``: in the line that this machine writes."""
    database, renewal, pointer = survey.database, survey.renewal, survey.pointer
    lease, entry = database.lease, database.entry
    now = Entry(
        in_use=True,
        epoch=lease.epoch,
        line=lease.line_epoch,
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
            txid = line.txid if (line.number, line.renewal) == (lease.line_epoch, renewal) else 0
            return structs.replace(now, txid=txid, signature=local_files.signature(database.path), saved_at=line.until)
        case Restore() if pointer is not None:
            saved_at = manifest.saved_at(pointer)
            return structs.replace(now, signature=local_files.signature(database.path), saved_at=saved_at)
    return now
