"""Make the folders of files of a tenant current before its app starts, after its databases: all of them, or none.

The plan is that of a database (``keep_or_restore``): the local folder is kept exactly if it descends from the store's
newest save. What is restored is the save that belongs to the databases (``pairing``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.config.schema import Storage, Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import disk_space, local_files, manifest, orphaned_copies, restore
from flyatc.databases.app_files import index as indexes
from flyatc.databases.app_files import pairing, placing, seeds
from flyatc.databases.app_files.folder import SavedFolder, Unusable
from flyatc.databases.app_files.index import Index
from flyatc.databases.app_files.manifest import Manifest
from flyatc.databases.app_files.pairing import Chosen, State
from flyatc.databases.app_files.placing import Bring, Damaged, Local
from flyatc.databases.app_files.scan import Scan
from flyatc.databases.database import unused_if_cut_short
from flyatc.databases.decisions.keep_or_restore import Adopt, Create, Here, Keep, Plan, Refuse, Restore, plan
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry, Pointer, Position, Snapshot
from flyatc.databases.restore import Seeds
from flyatc.databases.workers import Workers
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.objects.store import ConditionFailed, StoreUnavailable
from flyatc.observe.log import stamp


@dataclass(frozen=True)
class Survey:
    folder: SavedFolder
    plan: Plan
    pointer: Pointer | None
    found: Scan | None
    index: Index


@dataclass(frozen=True)
class Arrival:
    """A complete folder, to be put in place. ``manifest`` None: a seed. ``chosen``: the save that it is."""

    new: Path
    message: str  # restored, seeded
    began: float
    manifest: Manifest | None = None
    chosen: Chosen | None = None
    fetched: int = 0


async def make_whole(
    tenant: Tenant, folders: Sequence[SavedFolder], states: Sequence[State], record: Record, seed: Seeds, tools: Workers
) -> None:
    """Make all folders as the store has them, or newer, and record that they are in use. ``states``: of the databases.

    Raises RestoreRefused; StoreUnavailable, OSError."""
    surveys = await tasks.every((survey(folder, tools) for folder in folders), "survey")
    refused = [f"{s.folder}: {s.plan.reason}" for s in surveys if isinstance(s.plan, Refuse)]
    if refused:
        raise RestoreRefused("; ".join(refused))
    place_of = tools.workplace(tenant.data / ".flyatc", "restore")
    async with unused_if_cut_short(folders, record), place_of as place:
        arrivals = [await _prepare(one, states, seed, place, tools) for one in surveys]
        for one in surveys:
            if isinstance(one.plan, Create):
                tell_apart(one.folder, pairing.without(one.folder.name, states))
        settle = _settle(surveys, arrivals, record, tools)
        await tasks.to_the_end(tasks.start(settle, f"settle {tenant.address}"))


async def survey(folder: SavedFolder, tools: Workers) -> Survey:
    """Raises RestoreRefused, OSError, and what ``restore.ask`` raises."""
    try:
        found, index = await folder.look()
    except SaveFailed as error:
        raise RestoreRefused(str(error)) from error
    there, pointer = await restore.ask(folder, _not_streamed)
    lease, entry = folder.lease, folder.entry
    real = found is not None and bool(found.files or entry.base or entry.pending)
    sole = lease.previous.clean or lease.last_writer(entry.epoch)
    decided = plan(Here.SQLITE if real else Here.ABSENT, entry, there, touched=folder.unsaved, sole=sole)
    if isinstance(decided, Adopt):
        pointer = await _adopt(folder, decided)
        reason = f"{decided.reason}: it is complete" if pointer is not None else decided.reason
        decided = Restore(reason) if pointer is not None else decided.otherwise
    return Survey(folder, decided, pointer, found, index)


async def _not_streamed(_: object) -> Position | None:
    return None


async def _adopt(folder: SavedFolder, decided: Adopt) -> Pointer | None:
    """Publish the newest of the first saves that were never confirmed. Its manifest was sent last, so it is complete.
    None: none can be read."""
    there = await folder.remote.snapshots()
    for key in (key for key in decided.keys if key in there):
        try:
            found = await folder.manifest(key, None)
        except Unusable as error:
            folder.log_event("warning", "an unpublished save of files is not complete", error=str(error))
            continue
        snapshot = Snapshot(
            key=key,
            size=found.size,
            compressed=there[key].size,
            sha256=indexes.digest(found),
            saved=stamp(min(there[key].modified, time())),
        )
        pointer = manifest.point(snapshot, None, folder.lease.epoch)
        current = await folder.remote.current()
        if current is None or current.pointer is not None or not folder.lease.valid():
            raise StoreUnavailable(f"current.json of {folder} has been changed just now")
        try:
            await folder.remote.point(pointer, current)
        except ConditionFailed as error:
            raise StoreUnavailable(f"current.json of {folder} has been changed just now") from error
        return pointer
    return None


async def _prepare(one: Survey, states: Sequence[State], seed: Seeds, place: Path, tools: Workers) -> Arrival | None:
    """Return the folder to put in place; None: the local one stays. Raises RestoreRefused."""
    folder, pointer = one.folder, one.pointer
    if isinstance(one.plan, Restore) and pointer is not None:
        saves = await listed(folder, pointer)
        chosen = pairing.choose(folder.name, saves, states) or Chosen(pointer.snapshot, one.plan.reason)
        linked = one.plan.outdated
        local = Local(folder.path, one.found, one.index, linked) if one.found is not None else None
        return await bring(folder, chosen, local, place, tools)
    if isinstance(one.plan, Create) and (path := seed(folder.name)) is not None:
        began, new = monotonic(), place / segment_of(folder.name)
        try:
            await tools.heavy.run(partial(seeds.copy, path, new, folder.most))
        except (OSError, ValueError) as error:
            raise RestoreRefused(f"{folder.path}: its seed {path} cannot be used: {error}") from error
        return Arrival(new, "seeded", began)
    return None


async def listed(folder: SavedFolder, pointer: Pointer) -> list[Snapshot]:
    """Return the described saves that the store still has, newest first."""
    there = await folder.remote.snapshots()
    return [one for one in (pointer.snapshot, *pointer.previous) if one.key in there]


async def bring(folder: SavedFolder, chosen: Chosen, local: Local | None, place: Path, tools: Workers) -> Arrival:
    """Fetch a save into a new folder below ``place``, verified. Raises RestoreRefused, StoreUnavailable, OSError."""
    began, new, snapshot = monotonic(), place / segment_of(folder.name), chosen.snapshot
    try:
        found = await folder.manifest(snapshot.key, snapshot.link if snapshot.sha256 else None)
        kept = folder.folder / "files" / f"partial-{segment_of(folder.name)}"
        work = Bring(found, folder.blobs, new, kept, local, tools)
        async with tools.restores:
            with disk_space.require_free_space(str(folder), place, work.needs):
                await work.run()
    except (Unusable, Damaged) as error:
        raise RestoreRefused(
            f"{folder}: the save {manifest.version(snapshot.key)} is damaged: {error}. Nothing was overwritten. Choose "
            f"another one from flyatc history: flyatc restore {folder.tenant.address} {folder.name} --version V"
        ) from error
    return Arrival(new, "restored", began, found, chosen, work.fetched)


async def put(folder: SavedFolder, arrival: Arrival, tools: Workers, reason: str, index: Index, *, keep: bool) -> Index:
    """Put it in place; return its index. ``keep``: set the old folder aside."""
    aside = await tools.quick.run(
        partial(placing.put_in_place, arrival.new, folder.path, folder.folder, keep=keep)
    )  # fmt: skip
    if aside is not None:
        orphaned_copies.log_and_send(folder, aside, tools, reason)
    if arrival.manifest is None:
        folder.log_event("info", arrival.message, reason=reason)
        return Index()
    chosen, ms = arrival.chosen, round((monotonic() - arrival.began) * 1000)
    assert chosen is not None
    version, files = manifest.version(chosen.snapshot.key), len(arrival.manifest.files)
    folder.log_event(
        "info", arrival.message, version=version, files=files, size=arrival.manifest.size,
        fetched=arrival.fetched, ms=ms, reason=f"{reason}; {chosen.why}",
    )  # fmt: skip
    tell_apart(folder, chosen.apart)
    await local_files.tick()
    return await tools.heavy.run(partial(placing.index_of, folder.path, arrival.manifest, index))


def tell_apart(folder: SavedFolder, reason: str) -> None:
    """Log a sentence on files and databases that are not of one moment, and keep it for ``flyatc status``."""
    folder.relation = reason
    if reason:
        folder.log_event("warning", "the files and the databases are not of one moment", reason=reason)


def linked(index: Index, arrival: Arrival, pointer: Pointer | None) -> Index:
    """Return the index with the save that was restored, and the newest one if that is another."""
    if arrival.chosen is None or pointer is None:
        return index
    link = arrival.chosen.snapshot.link
    return structs.replace(index, link=link, over=pointer.link if link != pointer.link else None)


async def _settle(surveys: list[Survey], arrivals: list[Arrival | None], record: Record, tools: Workers) -> None:
    """Put folders in place, then write the record: the other order could vouch for older files after a crash."""
    for one, arrival in zip(surveys, arrivals, strict=True):
        folder, pointer = one.folder, one.pointer
        await tools.quick.run(partial(durable_files.make_folder, folder.path.parent))
        if arrival is not None:
            outdated = isinstance(one.plan, Restore) and one.plan.outdated
            keep = not outdated and one.found is not None and bool(one.found.files or one.found.skipped)
            index = await put(folder, arrival, tools, one.plan.reason, one.index, keep=keep)
            index = linked(index, arrival, pointer)
            await tools.quick.run(partial(indexes.write, folder.index_path, index))
            folder.behind = index.link is None
        elif isinstance(one.plan, Keep) and one.plan.lost:
            folder.log_event("warning", "the store has lost the files of a folder", reason=one.plan.reason)
    await record.put(
        {s.folder.name: structs.replace(_entry(s), in_use=True, epoch=s.folder.lease.epoch) for s in surveys}
    )


def _entry(one: Survey) -> Entry:
    """Return the record entry of the folder after its plan was carried out."""
    entry, pointer = one.folder.entry, one.pointer
    match one.plan:
        case Keep() if pointer is None:
            return structs.replace(entry, base=None)
        case Keep() if pointer is not None and pointer.link != entry.base:  # published, but the response was lost
            return structs.replace(entry, base=pointer.link)
        case Keep():
            return entry
        case Restore() if pointer is not None:
            return Entry(base=pointer.link, saved_at=manifest.saved_at(pointer))
    return Entry()


async def make_local(tenant: Tenant, seed: Seeds, storage: Storage, tools: Workers) -> None:
    """Prepare folders without a store: keep existing ones, seed missing ones. Raises RestoreRefused, OSError."""
    async with tools.workplace(tenant.data / ".flyatc", "restore") as place:
        for name in tenant.app.files:
            path, source = tenant.data / name, seed(f"{name}/")
            if source is not None and not path.exists():
                new = place / segment_of(name)
                try:
                    await tools.heavy.run(partial(seeds.copy, source, new, storage.files_most))
                except (OSError, ValueError) as error:
                    raise RestoreRefused(f"{path}: its seed {source} cannot be used: {error}") from error
                await tools.quick.run(partial(placing.put_in_place, new, path, tenant.data / ".flyatc", keep=True))
