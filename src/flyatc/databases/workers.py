"""Thread pools and concurrency limits that all databases share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from flyatc.databases import links, local_files
from flyatc.kit.threads import Threads
from flyatc.observe.log import Log

SENDING_SECONDS = 3.0  # for the upload of orphaned copies when the daemon stops


class Workers:
    """``quick``: threads for short calls; ``heavy``: for copies and compression, which must not delay the short ones.

    ``restores`` and ``saves`` bound the databases worked on at once, and so disk and memory; they are separate so that
    a background save does not delay a cold start. ``large``: instead of ``saves``, for the final save of a database
    above storage.large."""

    def __init__(self, keep: int, log: Log, adopt: str | None = None) -> None:
        """``adopt``: storage.key."""
        self.keep, self.log, self.adopt = keep, log, adopt
        self.quick, self.heavy = Threads(2, "records"), Threads(2, "databases")
        self.sending: set[asyncio.Task[None]] = set()  # uploads of orphaned copies
        self.failures: Callable[[str], int] = lambda tenant: 0  # 5xx responses of its app so far
        self.restores, self.saves, self.large = asyncio.Semaphore(4), asyncio.Semaphore(4), asyncio.Semaphore(1)

    @contextlib.asynccontextmanager
    async def workplace(self, folder: Path, what: str) -> AsyncIterator[Path]:
        """Create a temporary folder, removed afterwards. ``what``: restore, save or send."""
        place = await self.quick.run(partial(links.make_workplace, folder, what))
        try:
            yield place
        finally:
            await self.quick.run(partial(local_files.remove, place))

    async def sent(self, patience: float) -> None:
        """Wait for the uploads of orphaned copies, ``patience`` seconds at most."""
        if self.sending:
            _, late = await asyncio.wait(list(self.sending), timeout=patience)
            for one in late:  # the next run sends it
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def close(self) -> None:
        self.quick.close()
        self.heavy.close()
