"""Resources that all databases share: thread pools, concurrency limits, and the free space of the disk."""

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from flyatc.databases import local_files, restore_failures
from flyatc.databases.restore_failures import Room
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.threads import Threads
from flyatc.observe.log import Log


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
        place = await self.quick.run(partial(local_files.make_workplace, folder, what))
        try:
            yield place
        finally:
            await self.quick.run(partial(local_files.remove, place))

    def close(self) -> None:
        self.quick.close()
        self.heavy.close()


def look(path: Path, needed: int = 0) -> Room:
    """Return the space on the file system of ``path``, or of its nearest existing parent. Raises OSError."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    return Room(str(_mount(there)), str(path), shutil.disk_usage(there).free, needed)


def _mount(path: Path) -> Path:
    path = path.resolve()
    while path != path.parent and not os.path.ismount(path):
        path = path.parent
    return path


def seen(path: Path, needed: int = 0) -> Room | None:
    """As ``look``, but None if the file system cannot be queried."""
    try:
        return look(path, needed)
    except OSError:
        return None


@contextlib.contextmanager
def enough(who: str, place: Path, needed: int) -> Iterator[Room | None]:
    """Refuse a restore without enough room below ``place``, before anything is read. OSError inside becomes
    RestoreRefused, which names the disk and both sizes."""
    room = seen(place, needed)
    if room is not None and needed and room.short:
        full = OSError(errno.ENOSPC, "not started: no room")
        raise refused(who, full, room) from full
    try:
        yield room
    except OSError as error:
        raise refused(who, error, room or seen(place, needed)) from error


def refused(who: str, error: OSError, room: Room | None) -> RestoreRefused:
    words = str(error) if error.filename else (error.strerror or str(error))
    return RestoreRefused(
        f"{who} is not restored: {restore_failures.advice(restore_failures.of_error(error), words, room)}"
    )
