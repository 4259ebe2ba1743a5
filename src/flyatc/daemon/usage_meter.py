"""Measures what each user uses: running time and memory at intervals and at the end of each run, requests and bytes by
the counters that exist anyway. Kept on disk by day, one small file each, for ``flyatc cost``. And the last day of each
tenant (``observe.activity``), in a file beside them."""

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time

import msgspec

from flyatc.config.schema import Tenant
from flyatc.cost import usage
from flyatc.cost.usage import Day, Use
from flyatc.kit import durable_files
from flyatc.observe import activity
from flyatc.observe.activity import Activity
from flyatc.observe.counters import Counters, StoreCalls
from flyatc.observe.log import Log
from flyatc.process import measure_work
from flyatc.process.child import RunningChild

LOOK = 15.0  # s; between two measurements of memory
WRITE = 600.0  # s; what a SIGKILL loses
ACTIVITY = "activity"  # name of the file with the last day of each tenant
_FILE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.json")

Running = Callable[[Tenant, Callable[[], bool]], AbstractAsyncContextManager[RunningChild]]


@dataclass(eq=False, slots=True)
class _Run:
    user: str
    tenant: str  # its address
    members: Callable[[], list[int]]
    since: float  # monotonic; counted up to then
    memory: int | None = None  # bytes at the last look


class UsageMeter:
    """``folder``: of its files; its parent exists. ``stores``: the counts of each store in use."""

    def __init__(
        self,
        folder: Path,
        counters: Counters,
        stores: Sequence[StoreCalls],
        log: Log,
        *,
        wall: Callable[[], float] = time,
    ) -> None:
        self._folder, self._counters, self._stores, self._log, self._wall = folder, counters, stores, log, wall
        self._runs: set[_Run] = set()
        self._seen: dict[str, tuple[int, int]] = {}  # user → requests and bytes of the counters at the last look
        self._up_to = monotonic()
        self._day = self._new_day()
        self.activity = Activity(counters, wall())
        self._restored = False  # the activity before this daemon is not read yet
        self._failed = False
        self._writing = threading.Lock()  # the last write may begin while the one before still goes on

    def metered(self, running: Running) -> Running:
        """Return ``running``, with each run counted."""

        @contextlib.asynccontextmanager
        async def counted(tenant: Tenant, hurry: Callable[[], bool]) -> AsyncIterator[RunningChild]:
            async with running(tenant, hurry) as child:
                with self._counting(_Run(tenant.user, tenant.address, child.members, monotonic())):
                    yield child

        return counted

    @contextlib.contextmanager
    def _counting(self, run: _Run) -> Iterator[None]:
        self._runs.add(run)
        try:
            yield
        finally:
            self._runs.discard(run)
            if run.memory is None:  # too short for a look
                run.memory = measure_work.resident(run.members())
            self._count(run)

    def _count(self, run: _Run) -> None:
        now = monotonic()
        use, seconds = self._day.of(run.user), now - run.since
        use.seconds += seconds
        use.memory += seconds * (run.memory or 0)
        run.since = now
        self.activity.use(run.tenant, run.memory or 0)

    async def run(self) -> None:
        """Measure at intervals, and write now and then. Never returns."""
        await self._continue()
        self._restore(await asyncio.to_thread(self._read_activity))
        written = monotonic()
        while True:
            await asyncio.sleep(LOOK)
            await self.look()
            if usage.date_of(self._wall()) != self._day.date:
                ended, self._day = self._day, self._new_day()
                await asyncio.to_thread(self._write, ended)
                await self._continue()
            elif monotonic() - written > WRITE:
                written = monotonic()
                await asyncio.to_thread(self._write, self._day, self.activity.saved())

    async def _continue(self) -> None:
        """Add what this machine has counted on this day before."""
        self._add(await asyncio.to_thread(self._read, self._path(self._day.date)))

    def _add(self, before: Day | None) -> None:
        self._continued = True
        if before is not None:
            self._day.since, self._day.up = min(self._day.since, before.since), self._day.up + before.up
            for user, use in before.users.items():
                self._day.of(user).add(use)

    def _new_day(self) -> Day:
        self._continued = False  # its file, if there is one, is not read yet
        now = self._wall()
        return Day(date=usage.date_of(now), since=now, until=now)

    async def look(self) -> None:
        """Measure the memory of all runs, and count up to now."""
        runs = list(self._runs)
        if runs:
            sizes = await asyncio.to_thread(lambda: [measure_work.resident(run.members()) for run in runs])
            for run, size in zip(runs, sizes, strict=True):
                run.memory = size or run.memory  # 0: it has just ended
                if run in self._runs:
                    self._count(run)
        self._collect()

    def _collect(self) -> None:
        self.activity.look(self._wall())
        now = monotonic()
        self._day.up += now - self._up_to
        self._day.until, self._up_to = self._wall(), now
        for user, (requests, sent) in self._totals().items():
            before = self._seen.get(user, (0, 0))
            if (requests, sent) != before:
                use = self._day.of(user)
                use.requests += requests - before[0]
                use.sent += sent - before[1]
                self._seen[user] = requests, sent
        for calls in self._stores:
            for user, taken in calls.take().items():
                self._day.of(user).add(Use(writes=taken.writes, reads=taken.reads, uploaded=taken.uploaded))

    def _totals(self) -> dict[str, tuple[int, int]]:
        """Requests and bytes sent of each user since the start of the daemon."""
        found: dict[str, tuple[int, int]] = {}
        for (tenant, _), number in self._counters.requests.items():
            user = tenant.partition("/")[0]
            requests, sent = found.get(user, (0, 0))
            found[user] = requests + number, sent
        for tenant, octets in self._counters.sent.items():
            user = tenant.partition("/")[0]
            requests, sent = found.get(user, (0, 0))
            found[user] = requests, sent + octets
        return found

    # --- on disk ---

    async def days(self) -> list[Day]:
        """All days that are known, with today up to now."""
        await self.look()
        return [*await asyncio.to_thread(self._earlier), self._day]

    def _earlier(self) -> list[Day]:
        found = [self._read(self._path(date)) for date in self._dates() if date != self._day.date]
        return [day for day in found if day is not None]

    def _dates(self) -> list[str]:
        with contextlib.suppress(OSError):
            return sorted(one.stem for one in self._folder.iterdir() if _FILE.fullmatch(one.name))
        return []

    def _path(self, date: str) -> Path:
        return self._folder / f"{date}.json"

    @staticmethod
    def _read(path: Path) -> Day | None:
        """Read a day. None: there is none, or it is unreadable."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=Day)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _read_activity(self) -> bytes:
        with contextlib.suppress(OSError), (self._folder / ACTIVITY).open("rb") as file:
            return file.read(activity.MOST_BYTES)
        return b""

    def _restore(self, saved: bytes) -> None:
        self._restored = True
        self.activity.restore(saved)

    def _write(self, day: Day, lately: bytes = b"") -> None:
        """Write a day, and ``lately``, the activity; remove what is too old. Blocking. A failure is logged once."""
        try:
            with self._writing:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                durable_files.write(self._path(day.date), msgspec.json.encode(day))
                if lately:
                    durable_files.write(self._folder / ACTIVITY, lately)
                for date in usage.expired(self._dates(), day.date):
                    self._path(date).unlink(missing_ok=True)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._log.event("warning", "the use of this machine cannot be written", error=str(error))
            self._failed = True

    def close(self) -> None:
        """Write the last time, when no run is left. Blocks."""
        self._collect()
        if not self._continued:
            self._add(self._read(self._path(self._day.date)))
        if not self._restored:
            self._restore(self._read_activity())
        self._write(self._day, self.activity.saved())
