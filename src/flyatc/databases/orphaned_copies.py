"""Orphaned copies: local databases that were set aside, below ``.flyatc/orphans/NAME/``.

They are uploaded as well, as ``…/NAME.sqlite3.zst``, and a folder of files as ``NAME.tar.zst``, since the machine's
disk may be lost.
"""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic

from flyatc.config.schema_sections import segment_of
from flyatc.databases import local_files, sqlite, transfer
from flyatc.databases.database import Database
from flyatc.databases.manifest import ARCHIVE, SUFFIX
from flyatc.databases.transfer import Restored
from flyatc.databases.workers import Workers
from flyatc.kit import durable_files, tasks, timing
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import Progress, silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable

SENT = ".sent"  # marker beside an orphaned copy: the store has it as well
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Folder:
    """An orphaned copy on this machine. ``file``: its name, without the folders it was in."""

    name: str
    path: Path
    file: str
    size: int  # with its WAL


def set_aside_at(name: str) -> float | None:
    """Return the Unix time in the name; None: not the name of an orphaned copy."""
    if _NAME.fullmatch(name) is None:
        return None
    try:
        return datetime.strptime(name.partition("Z")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def folders(own: Path) -> list[Folder]:
    """List those on this machine, oldest first. ``own``: a tenant's ``.flyatc``. Blocking. Raises OSError."""
    found = []
    for place in local_files.orphans(own):
        if set_aside_at(place.name) is not None and place.is_dir():
            there = sorted(file for file in place.iterdir() if file.is_file() and file.name != SENT)
            whole = [file for file in there if not file.name.endswith(local_files.BESIDE)]
            size = sum(file.stat().st_size for file in there if not file.name.endswith("-shm"))
            found += [Folder(place.name, place, file.name, size) for file in whole]
            found += [
                Folder(place.name, place, f"{one.name}/", local_files.size_below(one))
                for one in sorted(place.iterdir())
                if one.is_dir() and not one.is_symlink() and not one.name.startswith("send-")
            ]
    return found


async def bring(database: Database, name: str, place: Path, tools: Workers, progress: Progress) -> Restored:
    """Make a checked copy of an orphaned copy below ``place``: from this machine if it is here, else from the store.
    The original stays. Raises RestoreRefused, StoreUnavailable, OSError."""
    began, raw = monotonic(), await _local(database, name, place, tools, progress)
    if raw is None:
        raw = await _stored(database, name, place, tools, progress)
    return Restored(raw, "restored", name, local_files.size(raw), began)


async def _local(database: Database, name: str, place: Path, tools: Workers, progress: Progress) -> Path | None:
    here = await tools.quick.run(partial(folders, database.folder))
    source = next((one.path / one.file for one in here if (one.name, one.file) == (name, database.path.name)), None)
    if source is None:
        return None
    raw = place / f"{database.name.replace('/', '~')}.raw"
    try:
        await tools.heavy.watch(partial(sqlite.copy, source, raw, data=database.tenant.data), "copy", progress)
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise RestoreRefused(
            f"{database}: the orphaned copy {name} is damaged: {error}. Nothing was overwritten. It stays at "
            f"{source}: sqlite3's .recover may get more out of it"
        ) from error
    await tools.quick.run(partial(durable_files.sync_file, raw))
    return raw


async def _stored(database: Database, name: str, place: Path, tools: Workers, progress: Progress) -> Path:
    orphan_store, key = database.remote.orphan_store, f"{name}{SUFFIX}"
    if key not in await orphan_store.names():
        raise RestoreRefused(
            f"{database}: there is no orphaned copy {name!r}, neither here nor in the store: see flyatc orphans "
            f"{database.tenant.address}"
        )
    own = place / segment_of(database.name)
    await tools.quick.run(own.mkdir)
    try:
        async with tools.restores:
            return await transfer.fetch(orphan_store, key, None, own, tools, progress)
    except transfer.SnapshotDamaged as error:
        raise RestoreRefused(
            f"{database}: the orphaned copy {name} is damaged in the store: {error}. Nothing was overwritten"
        ) from error


async def set_aside(database: Database, tools: Workers, reason: str) -> None:
    """Move the local files away, and upload them in the background. Raises OSError."""
    aside = await tools.quick.run(partial(local_files.set_aside, database.path, database.folder))
    if aside is not None:
        log_and_send(database, aside, tools, reason)


def log_and_send(database: Database, aside: Path, tools: Workers, reason: str) -> None:
    """Warn that the data are no longer where the app expects them, and upload them."""
    database.log_event("warning", "the local copy was set aside", path=str(aside), reason=reason)
    send(database, aside, tools)


def send(database: Database, aside: Path, tools: Workers) -> None:
    """Upload in the background until it succeeds; the next daemon continues what this one has not sent."""
    sending = tasks.start(_sent(database, aside, tools), f"orphan of {database}")
    tools.sending.add(sending)
    sending.add_done_callback(tools.sending.discard)


def unsent(aside: Path) -> bool:
    return not (aside / SENT).exists()


async def _sent(database: Database, aside: Path, tools: Workers) -> None:
    failures = 0
    while True:
        try:
            return await _send(database, aside, tools)
        except StoreUnavailable as error:
            if not failures:
                _log_unsent(database, aside, error)
        except (sqlite.Unusable, ConditionFailed, OSError) as error:
            return _log_unsent(database, aside, error)
        failures += 1
        await asyncio.sleep(timing.delay(failures, first=1.0, most=60.0))


async def _send(database: Database, aside: Path, tools: Workers) -> None:
    """Upload once. Its temporary folder is below ``aside``, since the next hold removes the tenant's."""
    began = monotonic()
    async with tools.saves, tools.workplace(aside, "send") as place:
        packed = place / "copy.zst"
        suffix = await _pack(database, aside / database.path.name, packed, place, tools)
        with contextlib.suppress(ConditionFailed):  # it was sent before, and the response was lost
            await database.remote.orphan_store.keep(f"{aside.name}{suffix}", packed)
    await tools.quick.run((aside / SENT).touch)
    ms = round((monotonic() - began) * 1000)
    database.log_event("warning", "the orphaned copy is in the store as well", name=aside.name, ms=ms)


async def _pack(database: Database, source: Path, packed: Path, place: Path, tools: Workers) -> str:
    """Pack a database, or a folder of files as one archive; return the suffix of its name."""
    if database.name.endswith("/"):
        await tools.heavy.watch(partial(local_files.pack_folder, source, packed), "compress", silent)
        return ARCHIVE
    copying = partial(sqlite.copy, source, place / "copy", data=database.tenant.data)
    await tools.heavy.watch(copying, "copy", silent)
    await tools.heavy.watch(partial(local_files.pack, place / "copy", packed), "compress", silent)
    return SUFFIX


def _log_unsent(database: Database, aside: Path, error: Exception) -> None:
    database.log_event("warning", "the orphaned copy is on this machine only", path=str(aside), error=str(error))
