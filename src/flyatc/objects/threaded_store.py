"""Calls of a store in threads, each with a deadline; the store made of them.

A call that exceeds its deadline is given up: its outcome is unknown (StoreUnavailable), an error is logged, and its
thread and the client's connections are replaced. See ``kit.threads``."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from flyatc.kit.machine_clocks import Clock
from flyatc.kit.threads import MOST_HUNG, Exhausted, Late, Threads, Tick
from flyatc.kit.timing import Deadline, Moving, Within
from flyatc.kit.types import Progress, silent
from flyatc.objects import store
from flyatc.objects.store import Seen, Stored, StoreUnavailable
from flyatc.observe.counters import StoreCalls
from flyatc.observe.log import Log

T = TypeVar("T")

SECONDS = 40.0  # for a small call, its retries included
STALL = 60.0  # s; a transfer without progress for this long is given up
SLOWEST = 64 << 10  # bytes/s; a transfer may take STALL plus its size divided by this rate
LISTING = 600.0  # s; for all pages of a listing
PAGE = 1000  # keys; of a listing
SMALL, LARGE = 4, 8  # threads: 4 restores and 4 saves run at once


class Calls:
    """Runs a store's calls. ``place``: the store's display name; ``seconds``: for a small call, SECONDS by default;
    ``replace``: drops the client, so that the next call makes another."""

    def __init__(
        self, name: str, place: str, log: Log | None, *, seconds: float | None, replace: Callable[[], None]
    ) -> None:
        self._place, self._log, self._replace = place, log, replace
        self._seconds = SECONDS if seconds is None else seconds
        self._small, self._large = Threads(SMALL, name), Threads(LARGE, f"{name}-transfers")

    async def small(self, what: str, work: Callable[[], T], seconds: float | None = None) -> T:
        """Run a small call. ``what``: its name in the log. Raises StoreUnavailable, as do the other methods."""
        try:
            return await self._small.run(work, Within(self._seconds if seconds is None else seconds))
        except Late as late:
            raise self._lost(what, late) from late

    async def pages(self, what: str, work: Callable[[Tick], T]) -> T:
        """Run a listing that ticks at each page; a page may take as long as a small call."""
        deadline = Moving(self._seconds, max(LISTING, self._seconds), SLOWEST)
        return await self._watched(self._small, what, work, "list", silent, deadline)

    async def transfer(self, what: str, work: Callable[[Tick], T], step: str, progress: Progress) -> T:
        return await self._watched(self._large, what, work, step, progress, Moving(STALL, STALL, SLOWEST))

    async def _watched(
        self,
        threads: Threads,
        what: str,
        work: Callable[[Tick], T],
        step: str,
        progress: Progress,
        deadline: Deadline,
    ) -> T:
        try:
            return await threads.watch(work, step, progress, deadline)
        except Late as late:
            raise self._lost(what, late) from late

    def _lost(self, what: str, late: Late) -> StoreUnavailable:
        if isinstance(late, Exhausted):
            reason = (
                f"{late.hung} calls of the store at {self._place} hang and cannot be ended (at most {MOST_HUNG}), so "
                "no more are made: see whether the disk or the network hangs, then restart flyatc"
            )
            self._log_error("no call of the store is made any more", what, reason, late)
        elif not late.begun:
            reason = f"the store at {self._place} is too slow: {what} did not get its turn in {late.after:.0f} s"
            self._log_error("a call of the store was not made", what, reason, late)
        else:
            self._replace()
            reason = f"the store at {self._place} did not end {what} in {late.after:.0f} s: it was given up"
            self._log_error("a call of the store was given up, its thread and client are replaced", what, reason, late)
        return StoreUnavailable(reason)

    def _log_error(self, message: str, what: str, reason: str, late: Late) -> None:
        if self._log is not None:
            self._log.event("error", message, call=what, reason=reason, hung=late.hung)

    def close(self) -> None:
        """Wait for running calls, except those given up."""
        for threads in (self._small, self._large):
            threads.close()


class Blocking(Protocol):
    """The operations of ObjectStore as calls that block. ``tick``: reports progress."""

    def open(self) -> None: ...

    def get(self, key: str) -> tuple[bytes, str] | None: ...

    def look(self, key: str) -> Seen | None: ...

    def put(self, key: str, body: bytes, *, create: bool, match: str | None) -> str: ...

    def head(self, key: str) -> Stored | None: ...

    def list(self, prefix: str, tick: Tick) -> tuple[Stored, ...]: ...

    def delete(self, key: str, *, match: str | None = None) -> None: ...

    def download(self, key: str, path: Path, tick: Tick) -> None: ...

    def download_by_full_key(self, key: str, path: Path, tick: Tick) -> None: ...

    def upload(self, key: str, path: Path, create: bool, tick: Tick) -> str: ...


class ThreadedStore:
    """An ObjectStore whose calls run in threads. To be opened first, and closed. ``counted``: calls with a result, as
    a bucket counts them."""

    part = math.inf  # bytes; larger objects are uploaded in parts of this size

    def __init__(self, blocking: Blocking, calls: Calls) -> None:
        self._blocking, self._calls = blocking, calls
        self.counted = StoreCalls()
        self.conditional_deletes = False

    async def open(self) -> None:
        """Open the store. Raises StoreRefused if the settings are wrong, StoreUnavailable."""
        await self._call("open", self._blocking.open)

    async def check(self) -> None:
        """Test that conditional writes work, before first use. Raises StoreRefused if they do not, StoreUnavailable."""
        self.conditional_deletes = await store.check(self, Clock().boottime)

    async def get(self, key: str) -> tuple[bytes, str] | None:
        found = await self._call(f"get {key}", partial(self._blocking.get, key))
        self.counted.count(key, reads=found is not None)
        return found

    async def look(self, key: str) -> Seen | None:
        found = await self._call(f"get {key}", partial(self._blocking.look, key))
        self.counted.count(key, reads=found is not None)
        return found

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        etag = await self._call(f"put {key}", partial(self._blocking.put, key, body, create=create, match=match))
        self.counted.count(key, writes=1, uploaded=len(body))
        return etag

    async def head(self, key: str) -> Stored | None:
        found = await self._call(f"head {key}", partial(self._blocking.head, key))
        self.counted.count(key, writes=1)  # a listing
        return found

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        await self._prepare()
        found = await self._calls.pages(f"list {prefix}", partial(self._blocking.list, prefix))
        self.counted.count(prefix, writes=1 + len(found) // PAGE)
        return found

    async def delete(self, key: str, *, match: str | None = None) -> None:
        await self._call(f"delete {key}", partial(self._blocking.delete, key, match=match))

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        await self._transfer("download", key, partial(self._blocking.download, key, path), progress)
        self.counted.count(key, reads=1)

    async def download_by_full_key(self, key: str, path: Path, progress: Progress) -> None:
        await self._transfer("download", key, partial(self._blocking.download_by_full_key, key, path), progress)
        self.counted.count(key, reads=1)

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        def work(tick: Tick) -> tuple[str, int]:
            etag = self._blocking.upload(key, path, create, tick)
            try:
                return etag, path.stat().st_size
            except OSError:  # the upload has succeeded all the same
                return etag, 0

        etag, size = await self._transfer("upload", key, work, progress)
        self.counted.count(key, writes=1 if size <= self.part else 2 + math.ceil(size / self.part), uploaded=size)
        return etag

    async def hang_up(self) -> None:
        """Close unused connections: after a sleep they may be dead without notice. A running call keeps its own."""

    def close(self) -> None:
        """Close the store after running calls have ended."""
        self._calls.close()

    async def _prepare(self) -> None:
        """Do what the deadline of the next call need not cover."""

    async def _call(self, what: str, work: Callable[[], T]) -> T:
        await self._prepare()
        return await self._calls.small(what, work)

    async def _transfer(self, step: str, key: str, work: Callable[[Tick], T], progress: Progress) -> T:
        await self._prepare()
        return await self._calls.transfer(f"{step} {key}", work, step, progress)
