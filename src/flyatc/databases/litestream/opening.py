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
from flyatc.databases.litestream import adoption, lines, restoring
from flyatc.databases.litestream.address import fault, prefix
from flyatc.databases.litestream.kept import Kept
from flyatc.databases.litestream.lines import Line, Lines
from flyatc.databases.litestream.means import Means
from flyatc.databases.litestream.plan import Asked, Bring, Plan, Saved, plan
from flyatc.databases.litestream.program import LitestreamMissing
from flyatc.databases.litestream.stream import Stream, forget
from flyatc.databases.opening import Seeds
from flyatc.databases.plan import Create, Keep, Refuse, Restore
from flyatc.databases.record import Record
from flyatc.databases.snapshot import Current
from flyatc.kit import durable, tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.progress import Progress, silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable


@dataclass(frozen=True)
class Survey:
    database: Database
    plan: Plan
    pointer: Pointer | None  # of the newest snapshot, if there is one
    found: Lines
    marked: bool  # current.json says that it is streamed

    @property
    def complete(self) -> bool:
        """When the plan is carried out, the line which is ours has all that is here."""
        line, entry = self.found.last, self.database.entry
        if line is None or line.number != self.database.owned.line:
            return False
        match self.plan:
            case Keep(verify=verify):
                return not verify and (entry.line, entry.txid) == (line.number, line.txid)
        return isinstance(self.plan, Bring)


async def make_whole(
    tenant: Tenant, databases: list[Database], record: Record, seeds: Seeds, means: Means
) -> list[Kept]:
    """All are as the store has them, or newer; all stream; the record says that they are in use.

    Raises RestoreRefused; StoreUnavailable, OSError, and what ``Owned.rise`` raises."""
    surveys = await tasks.every((_survey(database, means) for database in databases), "survey")
    refused = [f"{s.database}: {s.plan.reason}" for s in surveys if isinstance(s.plan, Refuse)]
    if refused:
        raise RestoreRefused("; ".join(refused))
    complete = frozenset(s.database.name for s in surveys if s.complete)  # asked now: the record is about to change
    async with means.tools.workplace(tenant.data / ".flyatc", "restore") as place:
        arrivals = await tasks.every((_prepare(s, seeds, place, means) for s in surveys), "restore")
        settle = _settle(surveys, arrivals, record, means)
        await tasks.to_the_end(tasks.start(settle, f"settle {tenant.address}"))
    return await attach(databases, complete, means, frozenset(s.database.name for s in surveys if s.marked))


async def attach(
    databases: list[Database], complete: frozenset[str], means: Means, marked: frozenset[str] = frozenset()
) -> list[Kept]:
    """What is there is in the store, and what comes will be. ``complete``: the names of those of which the first is
    known; ``marked``: of those whose current.json says that they are streamed. Raises RestoreRefused: then nothing is
    attached."""
    try:
        await means.engine.program()  # also where all are new, and litestream is needed later
    except LitestreamMissing as error:
        raise RestoreRefused(str(error)) from error
    interval = means.storage.interval
    streams = [
        Kept(database, partial(_stream, database, means), means.tools, interval, marked=database.name in marked)
        for database in databases
    ]
    try:
        await tasks.every((stream.begin(complete=stream.database.name in complete) for stream in streams), "attach")
    except BaseException as error:
        await tasks.to_the_end(tasks.start(_detach(streams), "detach"))
        if isinstance(error, SaveFailed):
            raise RestoreRefused(f"{error}. It is not started: what it wrote could be lost") from error
        raise
    return streams


async def _detach(streams: list[Kept]) -> None:
    await asyncio.gather(*(stream.detach() for stream in streams))


def _stream(database: Database, means: Means) -> Stream:
    return Stream(database, _url(database, means), means.engine, means.tools)


def _url(database: Database, means: Means) -> str:
    return means.addresses.of_line(database.tenant, database.name, database.owned.line)


# --- ask ---


async def _survey(database: Database, means: Means) -> Survey:
    for text in (str(database.path), means.storage.url):
        if reason := fault(text):
            raise RestoreRefused(f"{database}: {reason}")
    here = await means.tools.quick.run(partial(files.look, database.path))
    found = await listed(database, means)
    current = await database.shelf.current()
    await _rise(database, found, current.owner if current is not None else 0)
    pointer = current.pointer if current is not None else None
    alone = current is not None and pointer is not None and not current.streamed
    if current is None or not current.streamed:
        await _stamp(database, current, streamed=not alone)
    asked = Asked(
        here=here,
        entry=database.entry,
        touched=database.unsaved,
        former=database.owned.former,
        lines=found,
        saved=await _saved(database, pointer, means, alone=alone),
        strays=() if pointer is not None or found.found else tuple(await database.shelf.snapshots()),
        current=database.owned.line,
    )
    return Survey(database, plan(asked), pointer, found, marked=not alone)


async def listed(database: Database, means: Means) -> Lines:
    """Raises StoreUnavailable."""
    own = prefix(database.tenant, database.name)
    return lines.read(await means.store.list(own), own)


async def _rise(database: Database, found: Lines, owner: int) -> None:
    """Above all that the store's data know: an owner's record which was lost counts anew."""
    highest = max(owner, found.last.number if found.last is not None else 0)
    if highest > database.owned.epoch:
        await database.owned.rise(highest)


async def _stamp(database: Database, current: Current | None, *, streamed: bool) -> None:
    """With our epoch: a snapshot which an earlier owner has on its way fails. ``streamed``: the newest may be in a
    line, as whoever comes in snapshot mode learns. Raises StoreUnavailable."""
    try:
        await database.shelf.stamp(current, database.owned.epoch, streamed=streamed)
    except ConditionFailed as error:
        raise StoreUnavailable(f"current.json of {database} has been changed just now") from error


async def _saved(database: Database, pointer: Pointer | None, means: Means, *, alone: bool) -> Saved | None:
    if pointer is None:
        return None
    stored = await means.store.head(f"{prefix(database.tenant, database.name)}{pointer.key}")
    modified = stored.modified if stored is not None else lineage.saved_at(pointer)
    return Saved(pointer.link, pointer.epoch, modified, alone)


# --- prepare ---


async def _prepare(survey: Survey, seeds: Seeds, place: Path, means: Means) -> Arrival | None:
    """What is to be put in place; None: what is here stays. Raises RestoreRefused."""
    database, pointer, tools = survey.database, survey.pointer, means.tools
    match survey.plan:
        case Keep(verify=True):
            await opening.verify(database, tools)
        case Bring(line=line):
            return await bring(database, line, None, place, means, silent)
        case Restore() if pointer is not None:
            return await opening.bring(database, pointer.key, pointer, place, tools, silent)
        case Create():
            return await _adopt(database, place, means) or await opening.begin(database, seeds, place, tools)
    return None


async def bring(
    database: Database, line: Line, at: float | None, place: Path, means: Means, progress: Progress
) -> Arrival:
    """The database out of ``line``, as it was ``at`` that time (None: at the last). Raises RestoreRefused,
    restoring.NoSuchTime; StoreUnavailable, OSError."""
    began = monotonic()
    url = means.addresses.of_line(database.tenant, database.name, line.number)
    own = place / database.name.replace("/", "~")
    before = await listed(database, means)
    try:
        raw = await _restore(url, own, at, line.octets, means, progress, line.whole)
    except restoring.NoSuchTime:
        raise
    except restoring.NotRestored as error:
        if error.cause not in (Cause.DAMAGED, Cause.STORE_AWAY, Cause.UNKNOWN):
            raise _failed(database, lines.folder(line.number), error) from error
        # litestream itself removes old files, also under a restore that has just begun to read them (its issue 1270).
        if await listed(database, means) == before:
            raise _failed(database, lines.folder(line.number), error) from error
        try:
            raw = await _restore(url, own.with_name(f"{own.name}~2"), at, line.octets, means, progress, line.whole)
        except restoring.NotRestored as again:
            raise _failed(database, lines.folder(line.number), again) from again
    told = lines.folder(line.number) + (f":{line.txid}" if at is None else "")
    return Arrival(raw, "restored", told, files.octets(raw), began)


async def _restore(
    url: str, own: Path, at: float | None, octets: int, means: Means, progress: Progress, needed: int = 0
) -> Path:
    await means.tools.quick.run(own.mkdir)
    try:
        async with means.tools.restores:
            return await restoring.restore(url, own, at, octets, means, progress, needed)
    except LitestreamMissing as error:
        raise RestoreRefused(str(error)) from error


def _failed(database: Database, where: str, error: restoring.NotRestored) -> RestoreRefused:
    """Only a damaged replica is a reason for an earlier state."""
    if error.cause.passes:
        return RestoreRefused(f"{database} is not restored from {where}: {error.advice}")
    database.tell("error", "a replica cannot be restored", replica=where, error=str(error))
    return RestoreRefused(
        f"{database}: its replica {where} cannot be restored: {error}. Nothing was overwritten, and nothing begins "
        f"empty. Try an earlier state: flyatc restore {database.tenant.address} {database.name} --at TIME"
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
        await place_one(database, arrival, survey.plan, means)
        if isinstance(survey.plan, Create) and arrival is None:
            await opening.clear(database, survey.plan.reason, tools)
        elif isinstance(survey.plan, Keep) and survey.plan.lost:
            database.tell("warning", "the store has lost a database", reason=survey.plan.reason)
    await record.put({s.database.name: _entry(s) for s in surveys})


async def place_one(database: Database, arrival: Arrival | None, decided: Plan, means: Means) -> None:
    """Never under a litestream that has it open; and what that remembers is of another file, or of another line."""
    await means.engine.detach(database.path)
    if arrival is not None:
        outdated = isinstance(decided, Bring) and decided.outdated
        await opening.put_in_place(arrival, database, means.tools, decided.reason, outdated=outdated)
    if not isinstance(decided, Keep) or database.entry.line != database.owned.line:
        await forget(database.path, means.tools)


def _entry(survey: Survey) -> Entry:
    """What is true of the database now that its plan is carried out."""
    database = survey.database
    owned, entry = database.owned, database.entry
    now = Entry(in_use=True, epoch=owned.epoch, line=owned.line)
    match survey.plan:
        case Keep():
            return structs.replace(entry, in_use=True, epoch=owned.epoch, line=owned.line)
        case Bring(line=line):
            return structs.replace(now, txid=line.txid, saved_at=line.until)
        case Restore() if survey.pointer is not None:
            return structs.replace(now, base=survey.pointer.link, saved_at=lineage.saved_at(survey.pointer))
    return now
