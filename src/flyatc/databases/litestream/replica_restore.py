"""One database from a replica to a whole, checked file in a fresh folder; put in its place by somebody else.

Into an *empty* folder, always: beside a stale ``-wal`` litestream restores without a word, its own integrity check
passes, and SQLite plays the old pages into the new file. ``-force`` does not help where the database itself is missing.

Replicas which another litestream has written: looked for once, when our store has nothing of a database. Only read.

That there is nothing is believed of a listing only, never of litestream, which says the same of a damaged replica.

What the databases of all tenants share in litestream mode.

What litestream has written of a database, as the store lists it.
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

from flyatc.config import sections
from flyatc.config.schema import Storage, Tenant
from flyatc.databases import disk_space, local_files, restore_failures, sqlite
from flyatc.databases.database import Database
from flyatc.databases.litestream import client, replica_layout
from flyatc.databases.litestream.daemon import LitestreamDaemon, Run, Running
from flyatc.databases.litestream.replica_layout import Addresses, Lines, prefix
from flyatc.databases.manifest import Position
from flyatc.databases.restore_failures import Cause, Room
from flyatc.databases.transfer import fill
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.types import Exit, Progress
from flyatc.objects.open_store import store_of
from flyatc.objects.store import ObjectStore


@dataclass(frozen=True)
class LitestreamContext:
    store: ObjectStore
    storage: Storage
    environ: Mapping[str, str]
    addresses: Addresses
    engine: LitestreamDaemon
    run: Run
    tools: Workers


STALL = 30.0  # s without a new octet; litestream itself tries for two minutes, and on a silent endpoint for ever
LOOK = 0.1  # s; between two looks at how far it is
FIRST_LOOK = 0.01
KEPT = 5  # lines of its output, of the first and of the last ones
LONGEST = 2000  # characters of a line


class NotRestored(Exception):
    """No database was made of what is in the replica; says why. ``cause``: whether the replica is to blame."""

    def __init__(self, words: str, cause: Cause, room: Room | None = None) -> None:
        super().__init__(words)
        self.cause, self.room = cause, room

    @property
    def advice(self) -> str:
        """Of a cause that passes."""
        return restore_failures.advice(self.cause, str(self), self.room)


class NoSuchTime(NotRestored):
    """The replica has nothing from before that time."""


class Output:
    """What litestream said: its first lines, where Go says why it gave up, and its last ones."""

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
    octets: int,
    context: LitestreamContext,
    progress: Progress,
    needed: int = 0,
) -> Path:
    """A checked database below ``place``, which is new. ``at``: Unix time of the state that is wanted; None: the last.
    ``octets``: of the replica, as a measure for progress. ``needed``: octets which it surely takes; 0: not known.

    Raises NotRestored; LitestreamMissing, OSError."""
    engine, tools = context.engine, context.tools
    before = await tools.quick.run(partial(disk_space.seen, place, needed))
    if before is not None and needed and before.short:
        raise NotRestored("not started", Cause.FULL, before)
    raw = place / "database"
    moment = [] if at is None else ["-timestamp", datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")]
    argv = [str(await engine.program()), "restore", "-o", str(raw), *moment, url]
    environ = client.environment(engine.environ, client.FOR_RESTORES)
    said = Output()
    try:
        # Killed when we leave: who leaves early does not want it any more.
        async with context.run(argv, environ, said.hear, 0.0, lambda: True, place) as running:
            await _watch(running, Path(f"{raw}.tmp"), octets, progress)
            ended = running.exit
    except StartFailed as error:
        raise NotRestored(str(error), Cause.UNKNOWN) from error
    if ended is None or ended.code != 0 or not raw.exists():
        after = await tools.quick.run(partial(disk_space.seen, place, needed))
        raise _failure(ended, said.lines, str(place), before, after)
    try:
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise NotRestored(f"what it restored is damaged: {error}", Cause.DAMAGED) from error
    return raw


async def _watch(running: Running, growing: Path, octets: int, progress: Progress) -> None:
    """Until it has ended. Raises NotRestored when nothing comes any more."""
    clock, before, pause = asyncio.get_running_loop().time, -1, FIRST_LOOK
    since = clock()
    ended = tasks.start(running.exited.wait(), "a restore's end")
    try:
        while not (await asyncio.wait([ended], timeout=pause))[0]:
            pause = min(LOOK, 2 * pause)
            done = _size(growing)
            if done != before:
                before, since = done, clock()
                progress("restore", done, max(done, octets))
            elif clock() - since > STALL:
                raise NotRestored(f"nothing has come for {STALL:.0f} seconds", Cause.STORE_AWAY)
    finally:
        ended.cancel()
        await asyncio.wait([ended])


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return local_files.octets(path)
    return 0


def _failure(ended: Exit | None, said: list[str], place: str, before: Room | None, after: Room | None) -> NotRestored:
    """``place``: of the restore. ``before`` and ``after`` it: the room there."""
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
        last = "the files which its state begins with are missing"
    return f"litestream says: {last}"


FILE = "file:"


async def find(tenant: Tenant, database: str, context: LitestreamContext) -> str | None:
    """The replica's URL, as litestream wants it, where there is something. Raises StoreUnavailable, OSError."""
    template = context.storage.replica
    if template is None:
        return None
    place = fill(template, tenant, database)
    if place.startswith(FILE):
        there = await context.tools.quick.run(partial(_holds_files, Path(place.removeprefix(FILE))))
        return context.addresses.of_url(place) if there else None
    if place.startswith(sections.SCHEME):
        return context.addresses.of_url(place) if await _bucket_has(place, context) else None
    key = place.strip("/")
    return context.addresses.of_key(key) if await context.store.list(f"{key}/") else None


async def _bucket_has(url: str, context: LitestreamContext) -> bool:
    """It may be another bucket than ours; its credentials are the same."""
    there = sections.bucket_of(url, context.environ)
    store = store_of(structs.replace(context.storage, url=f"{sections.SCHEME}{there.name}"), context.environ)
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
    """``below``: in this folder of a line only. Raises StoreUnavailable."""
    own = prefix(database.tenant, database.name)
    return replica_layout.read(await store.list(f"{own}{below}"), own)


async def newest(store: ObjectStore, database: Database) -> Position | None:
    """None: it has written nothing. Raises StoreUnavailable."""
    last = (await listed(database, store)).last
    return last.position if last is not None else None
