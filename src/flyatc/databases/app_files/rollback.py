"""Restore a chosen save of the folders of files, together with the databases or alone.

All is fetched before anything is changed. Then the databases are put in place, then the folders: if the process ends in
between, a note on the disk says so, and the next start reports it until a restore succeeds.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from flyatc.config.schema import Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases import disk_space, links, manifest, orphaned_copies, restore
from flyatc.databases.app_files import index as indexes
from flyatc.databases.app_files import opening, pairing, seeds
from flyatc.databases.app_files.folder import SavedFolder
from flyatc.databases.app_files.opening import Arrival
from flyatc.databases.app_files.pairing import Chosen, State
from flyatc.databases.app_files.placing import Local
from flyatc.databases.decisions import version_choice
from flyatc.databases.decisions.version_choice import Choice, Moment, OrphanChoice
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import ARCHIVE, OF_FILES, Entry, Pointer, Snapshot
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent
from flyatc.objects.store import Absent

REASON = "requested by the operator"
INTERRUPTED = (
    "a restore was interrupted between the databases and the files: they may be of different moments. Run it again: "
    "flyatc restore"
)


@dataclass(frozen=True)
class _Ready:
    """A folder with what replaces it. ``pointer``: the store's newest save; None: there is none."""

    folder: SavedFolder
    pointer: Pointer | None
    local: Local | None
    arrival: Arrival
    keep: bool  # set the local folder aside


@dataclass
class Fetched:
    """Folders that are complete beside the local ones. Call ``settle`` once the databases are in place."""

    tenant: Tenant
    ready: Sequence[_Ready]
    record: Record
    tools: Workers
    mixed: bool = False  # the databases are in place, and the folders may not be

    async def settle(self) -> None:
        """Put all in place and record them as in use. Raises OSError."""
        self.mixed = True
        await tasks.to_the_end(tasks.start(self._settle(), f"settle {self.tenant.address}"))
        self.mixed = False

    async def _settle(self) -> None:
        entries = {}
        for one in self.ready:
            folder, pointer = one.folder, one.pointer
            before = one.local.index if one.local is not None else indexes.Index()
            index = await opening.put(folder, one.arrival, self.tools, REASON, before, keep=one.keep)
            await self.tools.quick.run(partial(indexes.write, folder.index_path, index))
            folder.behind = True  # chosen by the operator: it becomes the newest
            entries[folder.name] = Entry(
                base=pointer.link if pointer is not None else None,
                pending=folder.entry.pending,
                in_use=True,
                epoch=folder.lease.epoch,
                saved_at=manifest.saved_at(pointer) if pointer is not None else None,
            )
        await self.record.put(entries)

    @property
    def notes(self) -> list[str]:
        """Return a sentence on each folder, for the operator."""
        return [_note(one) for one in self.ready]


def _note(one: _Ready) -> str:
    chosen = one.arrival.chosen
    if chosen is None:
        return f"{one.folder.name}: what was set aside is restored"
    version = manifest.version(chosen.snapshot.key)
    apart = f". {chosen.apart}" if chosen.apart else ""
    return f"{one.folder.name}: restored {version}, saved {chosen.snapshot.saved}: {chosen.why}{apart}"


@contextlib.asynccontextmanager
async def fetched(
    tenant: Tenant,
    folders: Sequence[SavedFolder],
    choice: Choice,
    states: Sequence[State] | None,
    record: Record,
    tools: Workers,
) -> AsyncIterator[Fetched]:
    """Fetch what is chosen. ``states``: of the databases that are restored as well; None: the folder alone is.

    Raises RestoreRefused, StoreUnavailable, OSError; then nothing was changed."""
    own, ready = tenant.data / ".flyatc", []
    async with tools.workplace(own, "restore") as place:
        for folder in folders:
            one = await _fetch(folder, choice, states, place, tools)
            ready += [one] if one is not None else []
        if ready and states is not None:
            await tools.quick.run(partial(_note_down, own))
        made = Fetched(tenant, ready, record, tools)
        try:
            yield made
        finally:
            if not made.mixed:
                await tools.quick.run(partial(_forget, own))


async def _fetch(
    folder: SavedFolder, choice: Choice, states: Sequence[State] | None, place: Path, tools: Workers
) -> _Ready | None:
    try:
        found, index = await folder.look()
    except SaveFailed as error:
        raise RestoreRefused(str(error)) from error
    current = await restore.take_over(folder)
    pointer = current.pointer if current is not None else None
    saved = not folder.unsaved and folder.entry.base is not None  # then the store has it, and it may be removed
    local = Local(folder.path, found, index, linked=saved) if found is not None else None
    keep = not saved and found is not None and bool(found.files or found.skipped)
    if isinstance(choice, OrphanChoice):
        return _Ready(folder, pointer, local, await _orphan(folder, choice.name, place, tools), keep)
    chosen = await _choose(folder, pointer, choice, states)
    if chosen is None:
        return None
    return _Ready(folder, pointer, local, await opening.bring(folder, chosen, local, place, tools), keep)


async def _choose(
    folder: SavedFolder, pointer: Pointer | None, choice: Choice, states: Sequence[State] | None
) -> Chosen | None:
    """None: with the databases, if there is no save of the folder."""
    saves = await opening.listed(folder, pointer) if pointer is not None else []
    if states is not None:
        return pairing.choose(folder.name, saves, states, choice.at if isinstance(choice, Moment) else None)
    see = f"Nothing was changed; see flyatc history {folder.tenant.address}"
    match choice:
        case None if saves:
            return Chosen(saves[0], "it is the newest")
        case Moment():
            early = [save for save in saves if manifest.saved_at(save) <= choice.at]
            if early:
                return Chosen(early[0], f"it is the newest of {version_choice.rfc3339(choice.at)}")
            raise RestoreRefused(f"{folder}: there is no save from then or before. {see}")
        case str():
            key = f"{choice}{OF_FILES}"
            known = next((save for save in saves if save.key == key), None)
            if known is not None:
                return Chosen(known, "it was named")
            if key in await folder.remote.snapshots():  # never published, or older than the pointer describes
                return Chosen(Snapshot(key=key, size=0, compressed=1, sha256="", saved=""), "it was named")
            raise RestoreRefused(f"{folder} has no version {choice!r}. {see}")
    raise RestoreRefused(f"{folder}: the store has no save of it. {see}")


async def _orphan(folder: SavedFolder, name: str, place: Path, tools: Workers) -> Arrival:
    """Bring what was set aside, from this machine or from the store; it stays there."""
    began = monotonic()
    source, new = folder.folder / "orphans" / name / folder.path.name, place / segment_of(folder.name)
    key, stored = f"{name}{ARCHIVE}", folder.remote.orphan_store
    here = orphaned_copies.set_aside_at(name) is not None and source.is_dir()
    if not here and key not in await stored.names():
        raise RestoreRefused(f"{folder}: there is no orphaned copy {name!r}: see flyatc orphans")
    with disk_space.require_free_space(str(folder), place, 0):
        try:
            if here:
                await tools.heavy.run(partial(seeds.copy, source, new, folder.most))
            else:
                await stored.download(key, place / key, silent)
                await tools.heavy.run(partial(seeds.unpack, place / key, new, folder.most, folder.largest))
        except (ValueError, Absent) as error:
            raise RestoreRefused(f"{folder}: the orphaned copy {name} cannot be used: {error}") from error
    return Arrival(new, "restored", began)


def marker(own: Path) -> Path:
    """Return the note that a restore has begun. ``own``: the tenant's ``.flyatc``."""
    return own / "files" / "restoring"


async def interrupted(tenant: Tenant, tools: Workers) -> str:
    """Return a sentence about a restore that was cut off between the databases and the folders; empty: none was."""
    path = marker(tenant.data / ".flyatc")
    if not await tools.quick.run(path.exists):
        return ""
    return f"{INTERRUPTED} {tenant.address} …, or remove {path}"


def _note_down(own: Path) -> None:
    links.write(marker(own), INTERRUPTED.encode())


def _forget(own: Path) -> None:
    marker(own).unlink(missing_ok=True)
