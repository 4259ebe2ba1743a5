"""What all databases of a vault share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from flyatc.databases import local_files
from flyatc.kit.threads import Threads
from flyatc.observe.log import Log


class Workers:
    """``quick``: threads for what ends at once; ``heavy``: for copies and compression, which must not hold that up.

    ``restores`` and ``saves`` bound how many databases are worked on, and so the disk and memory they need; apart, so
    that a save in the background does not delay a cold start. ``large``: instead of ``saves``, for the last save of a
    database above storage.large."""

    def __init__(self, keep: int, log: Log, adopt: str | None = None) -> None:
        """``adopt``: storage.key."""
        self.keep, self.log, self.adopt = keep, log, adopt
        self.quick, self.heavy = Threads(2, "records"), Threads(2, "databases")
        self.sending: set[asyncio.Task[None]] = set()  # what was set aside, on its way to the store
        self.failures: Callable[[str], int] = lambda tenant: 0  # answers of its app with 5xx, so far
        self.restores, self.saves, self.large = asyncio.Semaphore(4), asyncio.Semaphore(4), asyncio.Semaphore(1)

    @contextlib.asynccontextmanager
    async def workplace(self, folder: Path, what: str) -> AsyncIterator[Path]:
        """A fresh folder, gone afterwards. ``what``: restore or save."""
        place = await self.quick.run(partial(local_files.make_workplace, folder, what))
        try:
            yield place
        finally:
            await self.quick.run(partial(local_files.remove, place))

    def close(self) -> None:
        self.quick.close()
        self.heavy.close()
