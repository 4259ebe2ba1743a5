"""Stream one database: attach it to litestream, and check its progress in the store.

litestream holds a read lock, so that no process restarts the WAL before litestream has read it. What an app writes and
checkpoints without that lock is in no transaction. litestream does not notice that if its own last frame is still in
the WAL, and makes a replica that cannot be restored. So one of these holds at each attach:

* the files are as they were when all was in the store, and we hold a read lock until litestream has its own;
* the WAL is empty: then no frame in it can be mistaken for an old one, and litestream sends the whole database;
* it is a new line (``begin_anew``), in which litestream finds nothing to continue from.

The same applies if an app replaces the attached file by a rename: the inode is watched.
"""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Any

from msgspec import structs

from flyatc.databases import links, local_files, sqlite
from flyatc.databases.database import Database
from flyatc.databases.litestream import replica_layout
from flyatc.databases.litestream.client import LitestreamMissing
from flyatc.databases.litestream.daemon import LitestreamFailed
from flyatc.databases.litestream.replica_layout import prefix
from flyatc.databases.litestream.replica_restore import LitestreamContext, listed
from flyatc.databases.manifest import Position, Signature
from flyatc.kit import timing
from flyatc.kit.errors import SaveFailed
from flyatc.objects.store import StoreUnavailable

ANSWER = 10.0  # s; for litestream to send a small database
SLOW = 3  # factor on the patience if nothing fails, for a busy machine
RATE = 2 << 20  # bytes a second; a slower upload counts as hung
WRITTEN = re.compile(r"[0-9a-f]{16}-([0-9a-f]{16})\.ltx")
LISTED_EACH = 30  # failed lookups of a transaction's file before all files are listed: it may be compacted


class Stream:
    """``renewal``: the last one that may exist of the line that this machine writes."""

    def __init__(self, database: Database, line: int, renewal: int, context: LitestreamContext) -> None:
        entry = database.entry
        self.database, self.line, self.renewal, self._context = database, line, renewal, context
        known = (entry.line, entry.renewal) == (line, renewal)
        self.txid = entry.txid if known else 0  # the last that the store is known to have
        self.saved_at = entry.saved_at
        self.renewed: str | None = None  # reason of the last renewal
        self._seen: Signature | None = entry.signature
        self._whole_at = time()  # Unix time; all was known to be in the store
        self._inode: int | None = None
        self._read = False  # by litestream since it was attached
        self._guard: sqlite3.Connection | None = None
        self._sought = 0  # failed lookups
        self._away = False  # the store did not respond since the last confirmation
        self._lock = asyncio.Lock()

    @property
    def position(self) -> Position:
        return Position(self.line, self.renewal, self.txid)

    @property
    def unsaved(self) -> bool:
        """True if there may be unconfirmed writes. Cheap: three stats."""
        try:
            found = local_files.signature(self.database.path)
        except OSError:  # the next look reports it
            return True
        return found[0] is not None and found != self._seen

    @property
    def begun(self) -> bool:
        """True if litestream has read it since it was attached."""
        return self._read and self._context.engine.holds(self.database.path)

    @property
    def lag(self) -> float:
        """Seconds since everything was in the store; 0: everything is now."""
        now = time()
        if not self.unsaved:
            self._whole_at = now
        return max(0.0, now - self._whole_at)

    @property
    def size(self) -> int:
        """Of the database and its WAL."""
        return self._size("") + self._size("-wal")

    async def begin(self) -> None:
        """Attach it before the app starts; the file may be created later. Does not wait for the upload. Raises
        SaveFailed."""
        async with self._lock:
            await self._or_save_failed(self._begin(), "cannot be streamed")

    async def begin_new(self) -> None:
        """Attach it after the running app has created it, without old state of litestream. Raises SaveFailed."""
        async with self._lock:
            await forget(self.database.path, self._context)
            await self._or_save_failed(self._attach(), "cannot be streamed")

    async def look(self) -> None:
        """Check what the store has. Raises SaveFailed."""
        async with self._lock:
            await self._or_save_failed(self._look(), "is not saved")

    async def caught_up(self) -> None:
        """Wait until the store has all that was committed before: as long as the size requires, longer if it is only
        slow. Raises SaveFailed."""
        began, since, failures = time(), monotonic(), 0
        patience = self.patience
        while True:
            trouble = "litestream is behind"
            try:
                await self.look()
                if not self.unsaved or self._whole_at > began:
                    return
                within = SLOW * patience
            except SaveFailed as error:
                trouble, within = str(error), patience
            waited = monotonic() - since
            if waited > within or not self.database.lease.valid():
                raise SaveFailed(f"{self.database} is not saved within {waited:.0f} s: {trouble}")
            failures += 1
            await asyncio.sleep(timing.delay(failures, first=0.05, most=0.2))

    @property
    def patience(self) -> float:
        """Seconds in which the whole database can be sent."""
        return ANSWER + self.size / RATE

    async def hand_over(self) -> None:
        """Let litestream send the rest, and detach, after the app has ended. Only the store can confirm it."""
        async with self._lock:
            await self._context.engine.detach(self.database.path, self.patience)
            await self._drop_guard()

    async def begin_anew(self, reason: str, level: str = "error") -> None:
        """Renew: leave the old line as it is, and send the whole database to a new one. The app may run; only this
        machine may write. Raises SaveFailed."""
        async with self._lock:
            await self._or_save_failed(self._begin_anew(reason, level), "cannot be streamed anew")

    async def detach(self) -> None:
        """Detach it; on return the file is closed."""
        async with self._lock:
            await self._detach()

    async def settle(self) -> None:
        """Take a signature that any later change alters. It is detached, the app has ended, the store has all."""
        local_files.date_back(self.database.path)
        for _ in range(4):
            self._seen = local_files.signature(self.database.path)
            if local_files.settled(self._seen):
                return
            await asyncio.sleep(local_files.TICK / local_files.SECOND)

    @property
    def signature(self) -> Signature | None:
        """Signature of the files when they were last confirmed."""
        return self._seen

    async def _or_save_failed(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Await ``work``, and turn its errors into SaveFailed."""
        try:
            await work
        except (LitestreamFailed, LitestreamMissing, StoreUnavailable, sqlite.Unusable, OSError) as error:
            self._away = self._away or isinstance(error, StoreUnavailable)
            raise SaveFailed(f"{self.database} {what}: {error}. The local copy is kept") from error

    async def _begin(self) -> None:
        if not await self._hold_the_wal():
            await self._drop_guard()
            await self._context.tools.heavy.run(partial(sqlite.empty_the_wal, self.database.path))
        await self._attach()

    def _refuse_links(self) -> None:
        """litestream follows links, and may read more than the app. Raises OSError."""
        links.refuse(self.database.tenant.data, [self.database.name])

    async def _attach(self) -> None:
        self._refuse_links()
        self._read = False
        url = self._context.addresses.of_line(self.database.tenant, self.database.name, self.line, self.renewal)
        await self._context.engine.attach(self.database.path, url)

    async def _begin_anew(self, reason: str, level: str) -> None:
        if not self.database.lease.valid():
            raise LitestreamFailed("this machine may not write at this moment")
        left = replica_layout.folder(self.line, self.renewal)
        await self._detach()
        await forget(self.database.path, self._context)
        self.renewal, self.txid, self._seen, self._inode, self.renewed = self.renewal + 1, 0, None, None, reason
        self._away = False
        now = replica_layout.folder(self.line, self.renewal)
        self.database.log_event(
            level, "its stream is begun anew, and all is sent again", reason=reason, left=left, now=now
        )
        entry = structs.replace(self.database.entry, line=self.line, renewal=self.renewal, txid=0, signature=None)
        await self.database.note(entry)
        await self._attach()

    async def _detach(self) -> None:
        await self._context.engine.detach(self.database.path)
        await self._drop_guard()

    async def _look(self) -> None:
        if not self.database.lease.valid():
            raise LitestreamFailed("this machine may not write at this moment")
        self._refuse_links()
        local_files.date_back(self.database.path)
        seen = local_files.signature(self.database.path)
        if seen[0] is None or not seen[0][1]:
            return self._missing(there=seen[0] is not None)
        if self._inode not in (None, seen[0][0]):
            await self._begin_anew("the app has replaced its database under way", "warning")
        self._inode = seen[0][0]
        if not self._context.engine.holds(self.database.path):
            await self._attach_again()
        progress = await self._context.engine.progress(self.database.path)
        if progress is not None and progress.error:
            raise LitestreamFailed(f"litestream: {progress.error}")
        read_at = progress.read_at if progress is not None else None
        if progress is not None and read_at is not None:
            self._read = True
            await self._drop_guard()
            await self._confirm(progress.txid, read_at, seen)

    def _missing(self, *, there: bool) -> None:
        """Handle an empty or absent file: not created or written yet, or removed by the app."""
        if there and self.txid:
            raise LitestreamFailed("it is empty although it had content; the store keeps what it had")

    async def _attach_again(self) -> None:
        """Attach it to a new litestream process."""
        if await self._hold_the_wal():
            return await self._attach()
        await self._begin_anew("litestream has ended while the database was being written", "warning")

    async def _confirm(self, txid: int, read_at: float, seen: Signature) -> None:
        """Confirm what litestream has read: all commits before ``read_at``, which is after ``seen``."""
        position = Position(self.line, self.renewal, txid)
        if position != self.position:
            if not await self._arrived(position):
                return
            if self._away and (lacking := await self._find_gap(position)) is not None:
                reason = f"the store was away, and lacks transaction {lacking}: litestream has written it elsewhere"
                return await self._begin_anew(reason, "error")
        self._away = False
        self.txid, self.saved_at, self._whole_at = txid, read_at, max(self._whole_at, read_at)
        if local_files.newest(seen) + local_files.TICK / local_files.SECOND < read_at:
            self._seen = seen

    async def _arrived(self, position: Position) -> bool:
        """Return whether the store has this position. Usually one request."""
        own = prefix(self.database.tenant, self.database.name)
        key = replica_layout.file_of(position, bucket=self._context.addresses.in_bucket)
        if await self._context.store.head(f"{own}{key}") is not None:
            self._sought = 0
            return True
        self._sought += 1
        if self._sought % LISTED_EACH:
            return False
        line = f"{replica_layout.folder(position.line, position.renewal)}/"
        found = (await listed(self.database, self._context.store, line)).last
        return found is not None and found.position >= position

    async def _find_gap(self, position: Position) -> int | None:
        """Return the first transaction up to ``position`` that the store has not got. litestream makes a folder of the
        store that has vanished anew, and goes on in the former one when that is back."""
        own = prefix(self.database.tenant, self.database.name)
        there = await self._context.store.list(f"{own}{replica_layout.folder(self.line, self.renewal)}/")
        return replica_layout.lacking(there, own, self.txid, position)

    async def _hold_the_wal(self) -> bool:
        """Lock the WAL against a restart. Return whether nothing was written since the store had everything."""
        await self._drop_guard()
        self._guard = await self._context.tools.quick.run(partial(sqlite.reading, self.database.path))
        now = local_files.signature(self.database.path)
        if not local_files.untouched(self._seen, now):
            return False
        self._seen = now
        return True

    async def _drop_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(sqlite3.Error):
                await self._context.tools.quick.run(guard.close)

    def _size(self, end: str) -> int:
        path = self.database.path
        try:
            return local_files.size(path.with_name(path.name + end))
        except OSError:
            return 0


async def forget(path: Path, context: LitestreamContext) -> None:
    """Remove litestream's local state of an earlier file at ``path``, or of an earlier line. It is detached."""
    for place in (context.engine.state(path), path.with_name(f".{path.name}-litestream")):  # the latter until 0.1
        await context.tools.quick.run(partial(local_files.remove, place))


async def written(path: Path, context: LitestreamContext) -> int | None:
    """Return the last transaction in litestream's local state of the file at ``path``; None: there is no state."""

    def look() -> int | None:
        files = context.engine.state(path).glob("ltx/*/*.ltx")
        return max((int(match[1], 16) for one in files if (match := WRITTEN.fullmatch(one.name))), default=None)

    return await context.tools.quick.run(look)
