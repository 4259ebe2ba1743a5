"""Verify a stream: restore it from the store alone, as another machine would, and compare it with the local file.

The comparison is page by page. litestream's own checksums do not help: its files have no checksum of the database.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from flyatc.databases import local_files, sqlite
from flyatc.databases.database import Database
from flyatc.databases.litestream import replica_layout, replica_restore
from flyatc.databases.litestream.replica_layout import Line
from flyatc.databases.litestream.replica_restore import LitestreamContext, listed
from flyatc.databases.manifest import Position
from flyatc.kit import tasks
from flyatc.kit.threads import Tick
from flyatc.kit.types import silent

CHUNK = 1 << 20  # bytes compared at once
LARGEST_PAGE = 1 << 16

# Header fields that differ in SQLite's copy of a database (sqlite.org/fileformat.html): the change counter, the
# schema cookie, and the version-valid-for number with the library's version.
_COPYS_OWN = ((24, 28), (40, 44), (92, 100))


class Differs(Exception):
    """The store's copy differs from the local file; the text is the difference."""


@dataclass(frozen=True)
class Proven:
    """A verified copy of the local database, with its sha256. The store has the same at ``position``."""

    copy: Path
    sha256: str
    position: Position


async def prove(database: Database, line: int, renewal: int, place: Path, context: LitestreamContext) -> Proven:
    """Restore the line, and compare. The app has ended, litestream is detached, and ``place`` is empty.

    Raises Differs, replica_restore.NotRestored; sqlite.Unusable, StoreUnavailable, OSError."""
    found, copy = await newest(database, line, renewal, context), place / "copy"
    copying = tasks.start(database.copy(copy, silent, keep_wal=True), f"copy {database}")
    try:
        restored = await restore(database, found, place, context)
        sha256 = await copying
    finally:
        copying.cancel()
        await asyncio.wait([copying])
    difference = await context.tools.heavy.watch(partial(differ, copy, restored), "compare", silent)
    if difference is not None:
        raise Differs(difference)
    await context.tools.quick.run(restored.unlink)
    return Proven(copy, sha256, found.position)


async def newest(database: Database, line: int, renewal: int, context: LitestreamContext) -> Line:
    """Return the line as listed in the store. Raises Differs if there is nothing; StoreUnavailable."""
    found = (await listed(database, context.store, f"{replica_layout.folder(line, renewal)}/")).last
    if found is None:
        raise Differs("the store has nothing of it")
    return found


async def restore(database: Database, line: Line, place: Path, context: LitestreamContext) -> Path:
    """Restore the line below ``place``, checked. Raises replica_restore.NotRestored, OSError."""
    url = context.addresses.of_line(database.tenant, database.name, line.number, line.renewal)
    return await replica_restore.restore(url, place, None, line.size, context, silent, line.whole)


class Sent(Protocol):
    """A stream, while its app runs."""

    @property
    def database(self) -> Database: ...

    @property
    def position(self) -> Position: ...

    @property
    def unsaved(self) -> bool: ...


async def compare(stream: Sent, version: str, raw: Path, context: LitestreamContext) -> str | None:
    """Return the difference between ``raw``, restored from ``version``, and the local file. None: no difference, or
    unknown since the app has written meanwhile. Raises OSError."""
    before = local_files.signature(stream.database.path)
    if stream.unsaved or str(stream.position) != version:
        return None
    copy = raw.with_name("local")
    try:
        await stream.database.copy(copy, silent, keep_wal=True)
    except sqlite.Unusable as error:
        stream.database.log_event("warning", "not compared with what the store has", error=str(error))
        return None
    if str(stream.position) != version or not local_files.untouched(
        before, local_files.signature(stream.database.path)
    ):
        return None
    return await context.tools.heavy.watch(partial(differ, copy, raw), "compare", silent)


def differ(copy: Path, restored: Path, tick: Tick) -> str | None:
    """Return the first difference as text; None: equal. Blocking."""
    total = local_files.size(copy)
    if local_files.size(restored) != total:
        return f"what it restores has {local_files.size(restored)} bytes, the local database {total}"
    done = 0
    with copy.open("rb") as one, restored.open("rb") as other:
        while chunk := one.read(CHUNK):
            against = other.read(CHUNK)
            if not done:
                size = int.from_bytes(chunk[16:18], "big")
                page, chunk, against = (LARGEST_PAGE if size == 1 else size), _without(chunk), _without(against)
            if chunk != against:
                first = next(i for i, (a, b) in enumerate(zip(chunk, against, strict=True)) if a != b)
                return f"page {(done + first) // page + 1} of {total // page} is not as in the local database"
            done += len(chunk)
            tick(done, total)
    return None


def _without(chunk: bytes) -> bytes:
    masked = bytearray(chunk)
    for begin, end in _COPYS_OWN:
        masked[begin:end] = bytes(end - begin)
    return bytes(masked)
