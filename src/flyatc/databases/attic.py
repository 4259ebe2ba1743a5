"""What was set aside: on this machine, below ``.flyatc/orphans/NAME/``, and in the store, ``…/NAME.sqlite3.zst``."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic

from flyatc.databases import fetch, files, sqlite
from flyatc.databases.arrival import Arrival
from flyatc.databases.database import Database
from flyatc.databases.lineage import SUFFIX
from flyatc.databases.tools import Tools
from flyatc.kit import durable
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.progress import Progress

SENT = ".sent"  # beside what was set aside: the store has it as well
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Folder:
    """A database which was set aside on this machine. ``file``: its name, without the folders it was in."""

    name: str
    path: Path
    file: str
    octets: int  # with its WAL


def set_aside_at(name: str) -> float | None:
    """Unix time; None: it is no name of ours."""
    if _NAME.fullmatch(name) is None:
        return None
    try:
        return datetime.strptime(name.partition("Z")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def folders(own: Path) -> list[Folder]:
    """What is there on this machine, oldest first. ``own``: a tenant's ``.flyatc``. Blocking. Raises OSError."""
    found = []
    for place in files.orphans(own):
        if set_aside_at(place.name) is not None and place.is_dir():
            there = sorted(file for file in place.iterdir() if file.is_file() and file.name != SENT)
            whole = [file for file in there if not file.name.endswith(files.BESIDE)]
            octets = sum(file.stat().st_size for file in there if not file.name.endswith("-shm"))
            found += [Folder(place.name, place, file.name, octets) for file in whole]
    return found


async def bring(database: Database, name: str, place: Path, tools: Tools, progress: Progress) -> Arrival:
    """A checked copy below ``place`` of what was set aside under this name; it stays where it is. From this machine
    where it is here, else from the store. Raises RestoreRefused, StoreUnavailable, OSError."""
    began, raw = monotonic(), await _local(database, name, place, tools, progress)
    if raw is None:
        raw = await _stored(database, name, place, tools, progress)
    return Arrival(raw, "restored", name, files.octets(raw), began)


async def _local(database: Database, name: str, place: Path, tools: Tools, progress: Progress) -> Path | None:
    here = await tools.quick.run(partial(folders, database.folder))
    source = next((one.path / one.file for one in here if (one.name, one.file) == (name, database.path.name)), None)
    if source is None:
        return None
    raw = place / f"{database.name.replace('/', '~')}.raw"
    try:
        await tools.heavy.watch(partial(sqlite.copy, source, raw), "copy", progress)
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise RestoreRefused(
            f"{database}: what was set aside as {name} is damaged: {error}. Nothing was overwritten. It stays at "
            f"{source}: sqlite3's .recover may get more out of it"
        ) from error
    await tools.quick.run(partial(durable.sync_file, raw))
    return raw


async def _stored(database: Database, name: str, place: Path, tools: Tools, progress: Progress) -> Path:
    attic, key = database.shelf.attic, f"{name}{SUFFIX}"
    if key not in await attic.names():
        raise RestoreRefused(
            f"{database}: nothing was set aside as {name!r}, neither here nor in the store: see flyatc orphans "
            f"{database.tenant.address}"
        )
    own = place / database.name.replace("/", "~")
    await tools.quick.run(own.mkdir)
    try:
        async with tools.restores:
            return await fetch.fetch(attic, key, None, own, tools, progress)
    except fetch.SnapshotDamaged as error:
        raise RestoreRefused(
            f"{database}: what was set aside as {name} is damaged in the store: {error}. Nothing was overwritten"
        ) from error
