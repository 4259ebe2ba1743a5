"""Replication of the databases of one running tenant in litestream mode, confirmed with the store every second.

litestream is seldom more than a second behind, but only what the store has counts.

When the lease ends, litestream is detached, and may still upload the last second's writes. That does no harm: it writes
only the line of our epoch; and a machine that takes over without our release starts a new line, which is the only one
restored as soon as it has content.
"""

import asyncio
import contextlib
from pathlib import Path
from time import monotonic

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.databases import autosave, restore
from flyatc.databases.database import Database
from flyatc.databases.litestream import final_save
from flyatc.databases.litestream.replica_restore import LitestreamContext
from flyatc.databases.litestream.stream_or_snapshot import StreamedDatabase
from flyatc.databases.litestream.wal_rules import Mode
from flyatc.databases.local_record import Record
from flyatc.databases.manifest import Entry
from flyatc.kit import tasks
from flyatc.kit.errors import CopyLost, SaveFailed
from flyatc.kit.types import Progress
from flyatc.objects.store import ObjectStore
from flyatc.ownership.lease import Lease

EVERY = 1.0  # s; between two checks
SOON, AT_FIRST = 0.1, 10.0  # s; interval, and its duration, while the app is about to create a database


class Replication:
    def __init__(
        self, tenant: Tenant, streams: list[StreamedDatabase], record: Record, lease: Lease, context: LitestreamContext
    ) -> None:
        self._context = context
        self._tenant, self.streams, self._record, self._lease = tenant, streams, record, lease
        self._ends: list[asyncio.Task[Entry]] = []
        self._leaving = asyncio.Event()
        self._behind = False  # and logged
        self._began = monotonic()
        self._watching = tasks.start(self._watch(), f"stream {tenant.address}")

    @property
    def unsaved(self) -> bool:
        return any(stream.unsaved for stream in self.streams)

    @property
    def saved_at(self) -> float | None:
        return max((s.saved_at for s in self.streams if s.saved_at is not None), default=None)

    @property
    def changed(self) -> tuple[str, float] | None:
        """Name and Unix time of the last change of a database."""
        return max(
            ((one.database.name, one.database.changed) for one in self.streams), key=lambda one: one[1], default=None
        )

    @property
    def lag(self) -> float:
        """Seconds since everything was in the store; 0: everything is."""
        return max((stream.lag for stream in self.streams), default=0.0)

    @property
    def size(self) -> int:
        return sum(stream.size for stream in self.streams)

    @property
    def alarms(self) -> list[str]:
        """Alarms for the operator, a sentence each."""
        return [alarm for stream in self.streams for alarm in stream.alarms]

    @property
    def expected(self) -> dict[str, str]:
        """See ``DatabaseService.expected``."""
        return {one.database.name: kind for one in self.streams if (kind := one.expected) is not None}

    @property
    def gauges(self) -> dict[str, float]:
        """Gauges for /metrics, by name: see control.metrics."""
        watched = [stream.watch for stream in self.streams]
        return {
            "wal_bytes": float(max((watch.wal for watch in watched), default=0)),
            "stuck_seconds": max((watch.stuck for watch in watched), default=0.0),
            "unstreamed": float(sum(stream.stream is None for stream in self.streams)),
        }

    @property
    def renewed(self) -> dict[str, str]:
        """Reason of the last renewal of each stream, by database."""
        return {stream.database.name: stream.renewed for stream in self.streams if stream.renewed is not None}

    async def save(self, progress: Progress, only: str | None = None) -> None:
        """Wait until the store has all that was committed before. Raises SaveFailed."""
        chosen = [stream for stream in self.streams if only in (None, stream.database.name)]
        if not chosen and only is not None:
            raise SaveFailed(f"{self._tenant.address} has no database {only!r}")
        work = autosave.save_all((one.database, one.confirm()) for one in chosen)
        await tasks.to_the_end(tasks.start(work, f"save {self._tenant.address}"))

    async def include(self, name: str, store: ObjectStore) -> Database:
        """Stream a database that the app has just made: the next look begins a new line. Raises RestoreRefused,
        StoreUnavailable, OSError."""
        database = Database(self._tenant, name, self._record, store, self._lease, self._context.tools)
        await restore.refuse_known(database)
        await restore.take_over(database, lambda current: True)
        await database.note(Entry(in_use=True, epoch=self._lease.epoch, line=self._lease.line_epoch))
        self.streams.append(StreamedDatabase(database, self._context, marked=True))
        return database

    async def begin_anew(self, database: str, reason: str) -> None:
        """Renew a stream that is damaged or not trusted: the old line stays, and the whole database is sent to a new
        one. The app may run. On return the new line is complete and verified. Raises SaveFailed."""
        stream = next((one.stream for one in self.streams if one.database.name == database), None)
        if stream is None:
            raise SaveFailed(f"{self._tenant.address}: {database!r} is not streamed")
        work = tasks.start(final_save.renew(stream, reason, self._context), f"new stream of {stream.database}")
        await tasks.to_the_end(work)

    async def compare(self, name: str, version: str, raw: Path) -> str | None:
        """See ``DatabaseService.compare``."""
        kept = next((one for one in self.streams if one.database.name == name), None)
        return await kept.compare(version, raw) if kept is not None else None

    async def heal(self, name: str, kind: str, reason: str) -> bool:
        """Replace a damaged copy in the store by a new one of the local file. False: not possible here. Raises
        SaveFailed."""
        kept = next((one for one in self.streams if one.database.name == name), None)
        if kept is None:
            return False
        if kept.stream is not None and kind == "stream":
            await self.begin_anew(name, reason)
            return True
        return await tasks.to_the_end(tasks.start(kept.heal(kind), f"heal {kept.database}"))

    async def leave(self) -> None:
        """Make the final saves after the app has ended, verified, and detach all. Raises SaveFailed; then the local
        copy is kept, on record, and detached as well. If cancelled, it does not wait for the verification, and what is
        not verified counts as not saved."""
        await tasks.to_the_end(tasks.start(self._leave(), f"last save {self._tenant.address}"), self._cut_short)

    def _cut_short(self) -> None:
        for end in self._ends:
            end.cancel()

    async def _leave(self) -> None:
        self._leaving.set()
        await asyncio.wait([self._watching])
        if self._record.deleted and self.streams:
            await asyncio.gather(*(stream.detach() for stream in self.streams))
            with contextlib.suppress(OSError):  # its positions in the stream would pass for ours
                await self._record.disown()
            self._lease.mark_dirty(autosave.DELETED, self._tenant.address)
            raise CopyLost(f"{self._tenant.address}: {autosave.DELETED}")
        self._ends = [tasks.start(self._finish(stream), f"last save of {stream.database}") for stream in self.streams]
        results = await asyncio.gather(*self._ends, return_exceptions=True)
        named = zip(self.streams, results, strict=True)
        saved = {stream.database.name: result for stream, result in named if isinstance(result, Entry)}
        try:
            await autosave.put_saved(saved, self._tenant, self._record)
        finally:
            self._raise([result for result in results if isinstance(result, BaseException)])

    def _raise(self, errors: list[BaseException]) -> None:
        failed = []
        for error in errors:
            if isinstance(error, asyncio.CancelledError):
                error = SaveFailed(
                    f"{self._tenant.address}: there was no time to verify that the store has all. The local copy is "
                    "kept: start it again on this machine, with a longer server.shutdown_timeout"
                )
            if not isinstance(error, SaveFailed):
                raise error
            failed.append(str(error))
        if failed:
            self._lease.mark_dirty("; ".join(failed), self._tenant.address)
            raise SaveFailed("; ".join(failed))
        self._lease.mark_saved(self._tenant.address)

    async def _finish(self, stream: StreamedDatabase) -> Entry:
        """Save and detach one. Raises SaveFailed; it is detached then as well."""
        try:
            if not self._lease.lost:
                return await stream.finish()
        except SaveFailed as error:
            stream.database.log_event("warning", "not saved", error=str(error))
            raise
        finally:
            await stream.detach()
        if stream.database.unsaved:
            await autosave.set_aside(stream.database, self._context.tools, self._lease.why)
        return structs.replace(stream.database.entry, in_use=False)

    async def _watch(self) -> None:
        """Check every second until the final save. If the lease ends, detach all."""
        while not self._leaving.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await tasks.first_of(self._leaving.wait(), self._lease.ended.wait())
            if self._lease.ended.is_set():
                await asyncio.gather(*(stream.detach() for stream in self.streams))
                return
            if not self._leaving.is_set():
                await self._look()

    def _pause(self) -> float:
        awaited = any(stream.mode is Mode.WAITING for stream in self.streams)
        return min(SOON, EVERY) if awaited and monotonic() - self._began < AT_FIRST else EVERY

    async def _look(self) -> None:
        locked, address = self._context.tools.log.locked, self._tenant.address
        if address in locked:
            locked.discard(address)
            for stream in self.streams:
                stream.locked_out = True
        try:
            await autosave.save_all((one.database, one.look()) for one in self.streams)
        except SaveFailed as error:
            if not self._behind:
                self._log_event("warning", "streaming is behind: tried again every second", error=str(error))
            self._behind = True
            return
        if self._behind:
            self._log_event("info", "streaming has caught up")
        self._behind = False

    def _log_event(self, level: str, message: str, **fields: object) -> None:
        self.streams[0].database.log_event(level, message, **fields)
