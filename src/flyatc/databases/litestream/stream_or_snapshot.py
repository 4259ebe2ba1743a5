"""One database in litestream mode: streamed if its app keeps it in WAL mode, and litestream can handle its name; else
saved as snapshots.

``wal_rules`` decides; this module carries it out. Nothing is lost in a change between the two: the local copy is always
the newest, the record says that it is in use, and the old way stops before the new one starts. In the store the pointer
shows which is newer: it says ``streamed`` from before litestream is attached until the next snapshot.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic, time
from typing import Any

from msgspec import structs

from flyatc.databases import local_files
from flyatc.databases.database import Database
from flyatc.databases.decisions.alarms import Watch
from flyatc.databases.litestream import final_save, verify_replica, wal_rules
from flyatc.databases.litestream.database_stream import ANSWER, RATE, Stream, forget
from flyatc.databases.litestream.replica_restore import LitestreamContext
from flyatc.databases.litestream.wal_rules import LEAVES_WAL, Journal, Mode, Seen
from flyatc.databases.manifest import Entry, Signature
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable


class StreamedDatabase:
    """``marked``: the store's pointer says that it is streamed."""

    def __init__(self, database: Database, context: LitestreamContext, *, marked: bool) -> None:
        self.database, self._context, self._tools = database, context, context.tools
        self._interval = context.storage.interval  # seconds between two snapshots; 0: only at stop
        self._marked = marked
        self._fault = context.addresses.fault(database.name)
        self.stream: Stream | None = None  # while litestream has it
        self.mode = Mode.WAITING
        self._since = self._saved = monotonic()  # start of this mode; last attempt of a snapshot
        self._probed = self._based = False
        self._before: Signature | None = None  # at the start of this mode
        self._first: int | None = None  # transaction of the stream, when all had been sent for the first time
        self._failures = 0
        self.locked_out = False  # the app reported it since the last look
        self._whole_at = time()
        self._lock = asyncio.Lock()
        self.watch = Watch()

    # --- state ---

    @property
    def unsaved(self) -> bool:
        return self.stream.unsaved if self.stream is not None else self.database.unsaved

    @property
    def due(self) -> bool:
        """True if it should be confirmed now."""
        if self.stream is not None:
            return self.stream.unsaved or not self.stream.begun
        return bool(self._interval) and monotonic() - self._saved > self._interval and self.database.unsaved

    @property
    def saved_at(self) -> float | None:
        return self.stream.saved_at if self.stream is not None else self.database.entry.saved_at

    @property
    def lag(self) -> float:
        if self.stream is not None:
            return self.stream.lag
        now = time()
        if not self.database.unsaved:
            self._whole_at = now
        return max(0.0, now - self._whole_at)

    @property
    def size(self) -> int:
        try:
            return self.stream.size if self.stream is not None else local_files.size(self.database.path)
        except OSError:
            return 0

    @property
    def txid(self) -> int:
        return self.stream.txid if self.stream is not None else 0

    @property
    def expected(self) -> str | None:
        """The copy that the store certainly has of it: stream, snapshot or None."""
        if self.stream is not None:
            return "stream" if self.stream.txid else None
        return "snapshot" if self.database.entry.base is not None else None

    @property
    def alarms(self) -> list[str]:
        """Alarms for the operator, a sentence each."""
        found = [self._fault or LEAVES_WAL] if self.mode is Mode.SAVED else []
        return [f"{self.database.name}: {sentence}" for sentence in (*found, *self.watch.sentences)]

    # --- life cycle ---

    @property
    def renewed(self) -> str | None:
        """Reason of the last renewal."""
        return self.stream.renewed if self.stream is not None else None

    async def begin(self) -> None:
        """Attach it before the app starts, if it may be streamed: see ``Stream.begin``. Raises SaveFailed."""
        self._failures = self._tools.failures(self.database.tenant.address)
        self._tools.log.locked.discard(self.database.tenant.address)
        mode = wal_rules.first(await self._journal(), doubted=self.database.entry.doubted)
        self._probed = mode is Mode.PROBED
        if mode is Mode.STREAMED:
            await self._attach()
        self._turn(mode)

    async def look(self) -> None:
        """Check it; called once a second while the app runs. Raises SaveFailed."""
        try:
            async with self._lock:
                await self._look()
            if self.due:
                await (self.stream.look() if self.stream is not None else self.confirm())
        finally:
            await self._alarm()
        if self._first is None and self.stream is not None and not self.stream.unsaved:
            self._first = self.stream.txid

    async def confirm(self) -> None:
        """Wait until the store has all that was committed before. Raises SaveFailed."""
        async with self._lock:
            if self.mode is Mode.WAITING:
                await self._look()
            if self.stream is None:
                return await self._snapshot()
        await self.stream.caught_up()

    async def compare(self, version: str, raw: Path) -> str | None:
        """See ``DatabaseService.compare``. The lock prevents an open() elsewhere, which would drop SQLite's locks."""
        async with self._lock:
            return (
                await verify_replica.compare(self.stream, version, raw, self._context)
                if self.stream is not None
                else None
            )

    async def heal(self, kind: str) -> bool:
        """See ``Replication.heal``; for a stream it is ``Replication.begin_anew``."""
        async with self._lock:
            if self.stream is None and kind == "snapshot":
                await self.database.save(silent, anew=True)
                return True
        return False

    async def detach(self) -> None:
        """Detach it from litestream."""
        if self.stream is not None:
            await self.stream.detach()

    async def finish(self) -> Entry:
        """Make the final save after the app has ended; return the entry for the record. Raises SaveFailed."""
        async with self._lock:
            if self.mode is Mode.WAITING:
                await self._look()
            if self.stream is None:
                await self._snapshot()
        entry = self.database.entry if self.stream is None else await final_save.finish(self.stream, self._context)
        doubted = self.mode is Mode.PROBED or (self._in_trouble() and not self._probed)
        return structs.replace(entry, in_use=False, epoch=self.database.lease.epoch, doubted=doubted)

    async def _journal(self) -> Journal:
        try:
            version = await self.database.format_version()
        except OSError as error:
            raise SaveFailed(f"{self.database} cannot be read: {error}") from error
        streamable = Journal.WAL if self._fault is None else Journal.OTHER
        return {0: Journal.ABSENT, 2: streamable}.get(version, Journal.OTHER)

    async def _alarm(self) -> None:
        """Log alarms, and renew a stuck stream. Raises SaveFailed."""
        stream, now = self.stream, monotonic()
        position, patience = (None, 0.0) if stream is None else (stream.position, ANSWER + stream.size / RATE)
        behind = stream is not None and stream.unsaved
        for level, message in self.watch.see(
            now, local_files.wal_size(self.database.path), position, behind=behind, patience=patience
        ):
            self.database.log_event(level, message)
        if stream is not None and self.watch.renewal_due(now) and await self._store_answers():
            await stream.begin_anew(f"it was written for {round(self.watch.stuck)} s, and the store got nothing of it")

    async def _store_answers(self) -> bool:
        """Return whether the store responds: a new line would fail otherwise."""
        with contextlib.suppress(StoreUnavailable):
            await self.database.remote.current()
            return True
        return False

    async def _look(self) -> None:
        trouble = self._in_trouble()
        if self.mode is Mode.SAVED or (self.mode is Mode.STREAMED and not trouble and self._wal_exists()):
            return
        seen = Seen(
            await self._journal(),
            trouble=trouble,
            probed=self._probed,
            written=self._written(),
            since=monotonic() - self._since,
        )
        await self._follow(wal_rules.following(self.mode, seen))

    async def _follow(self, mode: Mode) -> None:
        if mode is self.mode:
            return
        was = self.mode
        if mode is Mode.STREAMED and was is Mode.WAITING:
            await self._start(Stream.begin_new)
        elif mode is Mode.STREAMED:
            await self._attach_anew()
        elif self.stream is not None:
            await self.stream.detach()
            await forget(self.database.path, self._context)  # litestream does not see what the app writes now
            self.stream = None
        self._turn(mode)
        if mode is Mode.PROBED:
            self._probed = True
            reason = "the app fails while litestream has it: detached, to see whether the app leaves WAL mode"
            self.database.log_event("warning", "not streamed for a moment", reason=reason)
        elif was is Mode.PROBED and mode is Mode.STREAMED:
            self.database.log_event("info", "streamed again: the app keeps WAL mode")
        if mode is Mode.SAVED and was is not Mode.WAITING:
            await self._snapshot()

    def _turn(self, mode: Mode) -> None:
        self.mode, self._since, self._before = mode, monotonic(), self._signature()
        if mode is Mode.SAVED:
            self.database.log_event("warning", "not streamed, saved as snapshots", reason=self._fault or LEAVES_WAL)

    async def _attach(self) -> None:
        """Attach it before the app starts."""
        await self._start(Stream.begin)

    async def _attach_anew(self) -> None:
        """Attach it to a new line: the running app may have written what litestream has not seen."""
        reason = "it was not streamed for a while"
        await self._start(lambda stream: stream.begin_anew(reason, "info"))

    async def _start(self, begin: Callable[[Stream], Coroutine[Any, Any, None]]) -> None:
        if not self._marked:
            await self._mark()
        # A snapshot saved since then has cleared the line in the record: the line of the lease is the right one.
        database = self.database
        stream = Stream(database, database.lease.line_epoch, database.entry.renewal, self._context)
        try:
            await begin(stream)
        except BaseException:
            await tasks.to_the_end(tasks.start(stream.detach(), f"detach {self.database}"))
            raise
        self.stream = stream

    async def _mark(self) -> None:
        """Mark the pointer as streamed: the newest snapshot may be outdated from now on."""
        database = self.database
        try:
            current = await database.remote.current()
            if current is None or not current.streamed:
                await database.remote.stamp(current, database.lease.epoch, streamed=True)
        except (StoreUnavailable, ConditionFailed) as error:
            raise SaveFailed(f"{database} cannot be streamed: {error}") from error
        self._marked = True

    async def _snapshot(self) -> None:
        self._saved = monotonic()
        if not self._based:
            await self.database.build_upon()
            self._based = True
        self._marked = False
        await self.database.save(silent)

    def _in_trouble(self) -> bool:
        """Return whether the app fails like one that is locked out: it says so, or responds 5xx before any write."""
        log, address = self._tools.log, self.database.tenant.address
        failures, self._failures = self._failures, self._tools.failures(address)
        locked, self.locked_out = self.locked_out or address in log.locked, False
        return locked or (self._failures > failures and not self._written())

    def _written(self) -> bool:
        """Return whether the app has written in this mode. litestream itself writes when it is attached."""
        if self.stream is None:
            return self._signature() != self._before
        return self._first is not None and self.stream.txid > self._first

    def _signature(self) -> Signature | None:
        try:
            return local_files.signature(self.database.path)
        except OSError:
            return None

    def _wal_exists(self) -> bool:
        """Return whether there is a WAL. litestream keeps the database open, and so keeps its WAL."""
        return self.database.path.with_name(f"{self.database.path.name}-wal").exists()
