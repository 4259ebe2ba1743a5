"""Restore a replica into a complete, checked file in a new folder; list lines; find replicas of another litestream.

Always into an *empty* folder: beside a stale ``-wal`` litestream restores without a warning, its own integrity check
passes, and SQLite replays the old pages into the new file. ``-force`` does not help if the database itself is missing.

A replica written by another litestream is only read, and only looked for when our store has nothing of a database.
Only a listing proves that there is no replica: litestream reports the same for a damaged one.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs

from flyatc.config import check_sections
from flyatc.config.schema import Storage, Tenant
from flyatc.databases import disk_space, local_files, sqlite
from flyatc.databases.database import Database
from flyatc.databases.decisions import restore_failures
from flyatc.databases.decisions.restore_failures import Cause, Room
from flyatc.databases.litestream import client, replica_layout
from flyatc.databases.litestream.daemon import LitestreamDaemon, Run, Running
from flyatc.databases.litestream.replica_layout import Addresses, Lines, prefix
from flyatc.databases.manifest import Position
from flyatc.databases.transfer import fill
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.types import Exit, Progress
from flyatc.objects.open_store import store_of
from flyatc.objects.store import ObjectStore


@dataclass(frozen=True)
class LitestreamContext:
    """Shared by the databases of all tenants in litestream mode."""

    store: ObjectStore
    storage: Storage
    environ: Mapping[str, str]
    addresses: Addresses
    engine: LitestreamDaemon
    run: Run
    tools: Workers


STALL = 30.0  # s without a new octet; litestream itself tries for two minutes, and on a silent endpoint for ever
LOOK = 0.1  # s; between two progress checks
FIRST_LOOK = 0.01
KEPT = 5  # lines of its output, of the first and of the last ones
LONGEST = 2000  # characters of a line


class NotRestored(Exception):
    """The replica was not restored; the text is the reason. ``cause`` says whether the replica is damaged."""

    def __init__(self, words: str, cause: Cause, room: Room | None = None) -> None:
        super().__init__(words)
        self.cause, self.room = cause, room

    @property
    def advice(self) -> str:
        """Advice to the operator, for a temporary cause."""
        return restore_failures.advice(self.cause, str(self), self.room)


class NoSuchTime(NotRestored):
    """The replica has nothing from before that time."""


class Output:
    """Output of litestream: its first lines, which have the reason of a Go crash, and its last ones."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=KEPT)

    def hear(self, stream: str, line: str) -> None:
        if line.strip():
            (self._first if len(self._first) < KEPT else self._last).append(line[:LONGEST])

    @property
    def lines(self) -> list[str]:
        return [*self._first, *self._last]


async def restore(
    url: str,
    place: Path,
    at: float | None,
    size: int,
    context: LitestreamContext,
    progress: Progress,
    needed: int = 0,
) -> Path:
    """Restore a checked database below ``place``, which is new. ``at``: Unix time of the wanted state; None: the last.
    ``size``: of the replica, for progress. ``needed``: minimal bytes of the result; 0: unknown.

    Raises NotRestored; LitestreamMissing, OSError."""
    engine, tools = context.engine, context.tools
    before = await tools.quick.run(partial(disk_space.free_space_or_none, place, needed))
    if before is not None and needed and before.short:
        raise NotRestored("not started", Cause.FULL, before)
    raw = place / "database"
    moment = [] if at is None else ["-timestamp", datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")]
    argv = [str(await engine.program()), "restore", "-o", str(raw), *moment, url]
    environ = client.environment(engine.environ, client.FOR_RESTORES)
    said = Output()
    try:
        # Killed on exit: after an early exit the result is not needed.
        async with context.run(argv, environ, said.hear, 0.0, lambda: True, place) as running:
            await _watch(running, Path(f"{raw}.tmp"), size, progress)
            ended = running.exit
    except StartFailed as error:
        raise NotRestored(str(error), Cause.UNKNOWN) from error
    if ended is None or ended.code != 0 or not raw.exists():
        after = await tools.quick.run(partial(disk_space.free_space_or_none, place, needed))
        raise _failure(ended, said.lines, str(place), before, after)
    try:
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise NotRestored(f"what it restored is damaged: {error}", Cause.DAMAGED) from error
    return raw


async def _watch(running: Running, growing: Path, size: int, progress: Progress) -> None:
    """Report progress until it has ended. Raises NotRestored if there is no progress for STALL seconds."""
    clock, before, pause = asyncio.get_running_loop().time, -1, FIRST_LOOK
    since = clock()
    ended = tasks.start(running.exited.wait(), "a restore's end")
    try:
        while not (await asyncio.wait([ended], timeout=pause))[0]:
            pause = min(LOOK, 2 * pause)
            done = _size(growing)
            if done != before:
                before, since = done, clock()
                progress("restore", done, max(done, size))
            elif clock() - since > STALL:
                raise NotRestored(f"no data was received for {STALL:.0f} seconds", Cause.STORE_AWAY)
    finally:
        ended.cancel()
        await asyncio.wait([ended])


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return local_files.size(path)
    return 0


def _failure(ended: Exit | None, said: list[str], place: str, before: Room | None, after: Room | None) -> NotRestored:
    """Return the error. ``place``: of the restore. ``before``, ``after``: the space there at these times."""
    cause = restore_failures.of_litestream(
        said, ended, place, after.free if after is not None else restore_failures.FULL_BELOW
    )
    words = _words(said, ended, cause)
    return NoSuchTime(words, cause) if cause is Cause.NO_SUCH_TIME else NotRestored(words, cause, before)


def _words(said: list[str], ended: Exit | None, cause: Cause) -> str:
    if cause in (Cause.KILLED, Cause.MEMORY) or not said:
        return f"{said[0]}; {ended}" if said else f"litestream ended: {ended}"
    last = said[-1].removeprefix("Error: ")
    with contextlib.suppress(msgspec.MsgspecError):
        last = str(msgspec.json.decode(last, type=dict[str, object]).get("error", last))
    if "no matching backup files" in last:
        last = "the first files of that state are missing"
    return f"litestream says: {last}"


FILE = "file:"


async def find(tenant: Tenant, database: str, context: LitestreamContext) -> str | None:
    """Return the URL of another litestream's replica, if it has files. Raises StoreUnavailable, OSError."""
    template = context.storage.replica
    if template is None:
        return None
    place = fill(template, tenant, database)
    if place.startswith(FILE):
        there = await context.tools.quick.run(partial(_holds_files, Path(place.removeprefix(FILE))))
        return context.addresses.of_url(place) if there else None
    if place.startswith(check_sections.SCHEME):
        return context.addresses.of_url(place) if await _bucket_has(place, context) else None
    key = place.strip("/")
    return context.addresses.of_key(key) if await context.store.list(f"{key}/") else None


async def _bucket_has(url: str, context: LitestreamContext) -> bool:
    """Return whether it has objects. It may be another bucket than ours, with the same credentials."""
    there = check_sections.bucket_of(url, context.environ)
    store = store_of(structs.replace(context.storage, url=f"{check_sections.SCHEME}{there.name}"), context.environ)
    assert store is not None, "the mode is litestream"
    with contextlib.closing(store):
        await store.open()
        return bool(await store.list(there.prefix))


def _holds_files(folder: Path) -> bool:
    return any(True for _ in _files(folder))


def _files(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder, onerror=_unless_absent):
        yield from names


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


async def listed(database: Database, store: ObjectStore, below: str = "") -> Lines:
    """List the lines of a database. ``below``: only those in this folder. Raises StoreUnavailable."""
    own = prefix(database.tenant, database.name)
    return replica_layout.read(await store.list(f"{own}{below}"), own)


async def newest(store: ObjectStore, database: Database) -> Position | None:
    """Return the last position in the store; None: litestream has written nothing. Raises StoreUnavailable."""
    last = (await listed(database, store)).last
    return last.position if last is not None else None
