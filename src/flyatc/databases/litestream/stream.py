"""One database which streams: attached to litestream, and asked again and again whether all has arrived.

The file must stay the same while it is attached: over one that was replaced, by a rename as some apps do it, litestream
builds a replica which cannot be restored. So its inode is watched; a new one begins anew, with a whole upload.
"""

import asyncio
from functools import partial
from pathlib import Path
from time import time

from flyatc.databases import files
from flyatc.databases.database import Database
from flyatc.databases.lineage import Signature
from flyatc.databases.litestream.engine import Engine, EngineFailed
from flyatc.databases.litestream.program import LitestreamMissing
from flyatc.databases.tools import Tools
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed

ANSWER = 5.0  # s; for litestream to confirm what is small
RATE = 2 << 20  # octets a second; slower than that an upload counts as hung
FIRST = 0.1  # s; an app waits for litestream so long where the store is known to have all: to see that it works


class Stream:
    """``url``: of the line which is ours to write."""

    def __init__(self, database: Database, url: str, engine: Engine, tools: Tools) -> None:
        self.database, self._url, self._engine, self._tools = database, url, engine, tools
        self.txid = database.entry.txid
        self.saved_at = database.entry.saved_at
        self._seen: Signature | None = database.entry.signature
        self._whole_at = time()  # when all was known to be in the store
        self._inode: int | None = None
        self._starts = 0  # of the engine, when it was last confirmed
        self._lock = asyncio.Lock()
        self._first: asyncio.Task[SaveFailed | None] | None = None

    @property
    def unsaved(self) -> bool:
        """Whether something may have been written that is not confirmed. Cheap: three stats."""
        try:
            found = files.signature(self.database.path)
        except OSError:  # the next confirmation says what is wrong
            return True
        return found[0] is not None and found != self._seen

    @property
    def lag(self) -> float:
        """Seconds since everything was in the store; 0: everything is."""
        now = time()
        if not self.unsaved:
            self._whole_at = now
        return max(0.0, now - self._whole_at)

    @property
    def octets(self) -> int:
        """Of the database and its WAL."""
        return self._size("") + self._size("-wal")

    async def begin(self, *, complete: bool) -> None:
        """It streams, from its first transaction on if it is not there yet; what is there is in the store.

        ``complete``: that it is, in the line which is ours, is known. Then litestream is waited for FIRST seconds and
        no longer: it reads through a database which it has sent before, and sends the whole of one which was restored.
        Raises SaveFailed."""
        try:
            await self._engine.attach(self.database.path, self._url)
        except (EngineFailed, LitestreamMissing) as error:
            raise SaveFailed(f"{self.database} cannot be streamed: {error}") from error
        self._first = tasks.start(self._tried(), f"first confirmation of {self.database}")
        await asyncio.wait([self._first], timeout=FIRST if complete else None)
        if self._first.done() and (failed := self._first.result()) is not None:
            raise failed

    async def detach(self) -> None:
        """Nothing holds its file any more."""
        await self._engine.detach(self.database.path)
        if self._first is not None:
            await asyncio.wait([self._first])

    async def confirm(self) -> None:
        """The store has all that was committed before. Raises SaveFailed."""
        async with self._lock:
            try:
                await self._confirm()
            except (EngineFailed, LitestreamMissing, OSError) as error:
                raise SaveFailed(f"{self.database} is not saved: {error}. The local copy is kept") from error

    async def settle(self) -> None:
        """Let go, after the app has ended and all was confirmed: from now on any change of the files shows."""
        for _ in range(4):
            self._seen = files.signature(self.database.path)
            if files.settled(self._seen):
                return
            await asyncio.sleep(files.TICK / files.SECOND)

    @property
    def signature(self) -> Signature | None:
        """Of the files when they were last confirmed."""
        return self._seen

    # --- parts ---

    async def _tried(self) -> SaveFailed | None:
        try:
            await self.confirm()
        except SaveFailed as error:  # if nobody waits any more, the next look tries again, and tells
            return error
        return None

    async def _confirm(self) -> None:
        if not self.database.owned.valid():
            raise EngineFailed("this machine may not write at this moment")
        seen = files.signature(self.database.path)
        if seen[0] is None or not seen[0][1]:
            return self._missing(there=seen[0] is not None)
        await self._look_for_another(seen[0][0])
        txid = await self._engine.sync(self.database.path, self._patience())
        self.txid, self.saved_at, self._starts = txid, time(), self._engine.starts
        self._seen = seen if files.settled(seen) else None  # else the next look would not see a write of this moment

    def _missing(self, *, there: bool) -> None:
        """The app has not made it, or has put nothing into it yet; or it has taken it away."""
        if there and self.txid:
            raise EngineFailed("it is empty although it had content; the store keeps what it had")

    async def _look_for_another(self, inode: int) -> None:
        if self._inode is not None and self._inode != inode:
            self.database.tell("warning", "the app has replaced its database under way: it is streamed anew")
            await self._engine.detach(self.database.path)
            await forget(self.database.path, self._tools)
            await self._engine.attach(self.database.path, self._url)
            self._starts = 0
        self._inode = inode

    def _patience(self) -> float:
        """A new litestream may have to send all of it; else what is in the WAL."""
        whole = self._starts != self._engine.starts
        return ANSWER + (self.octets if whole else self._size("-wal")) / RATE

    def _size(self, end: str) -> int:
        path = self.database.path
        try:
            return files.octets(path.with_name(path.name + end))
        except OSError:
            return 0


async def forget(path: Path, tools: Tools) -> None:
    """What litestream remembers of a file which stood at ``path`` before, or of a line which was ours before. It is
    detached."""
    await tools.quick.run(partial(files.remove, path.with_name(f".{path.name}-litestream")))
