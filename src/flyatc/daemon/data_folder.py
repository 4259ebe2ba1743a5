"""Recover if the data folder, or a part of it, is deleted or replaced while the daemon runs.

Apps go on writing to deleted files, which can no longer be saved. So an app whose folder is gone is killed, what it had
not saved is lost, and the tenant continues from the store. If the whole folder is gone, lock, identity and maintenance
are written again first, so that no second daemon can start on it. Another folder in its place (an older copy, a volume
that is mounted late) is no better than none: what was restored and saved is not what is in there."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from flyatc.daemon.wiring import DataLock
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, OwnershipUnknown
from flyatc.observe.log import Log
from flyatc.tenants.fleet import Fleet

LOOK = 1.0  # s
WHY = "its data folder was deleted"


class DataFolder:
    """``rewrite``: writes the state in memory to disk; raises OSError, FlyatcError. ``stop``: ends the daemon."""

    def __init__(
        self,
        data: Path,
        lock: DataLock,
        fleet: Fleet,
        rewrite: Callable[[], None],
        stop: Callable[[str], None],
        log: Log,
    ) -> None:
        self._data, self._lock, self._fleet = data, lock, fleet
        self._rewrite, self._stop, self._log = rewrite, stop, log
        self._recovery: asyncio.Task[None] | None = None
        self._lost_to_another = False
        self.losses = 0  # number of deletions

    async def watch(self) -> None:
        """Check every LOOK seconds. Never returns."""
        while True:
            await asyncio.sleep(LOOK)
            if not self._lock.holds():
                await self._recovered()
            elif await self._fleet.kill_deleted(WHY, gone=lambda data: not data.is_dir()):
                self.losses += 1

    async def present(self) -> None:
        """Wait until the folder exists and is locked by us. Raises OwnershipUnknown."""
        if not self._lock.holds():
            await self._recovered()
        if self._lost_to_another or not self._lock.holds():
            raise OwnershipUnknown(f"the data folder {self._data} was deleted, and cannot be restored")

    async def _recovered(self) -> None:
        if self._recovery is None or self._recovery.done():
            self._recovery = tasks.start(self._recover(), "data folder")
        await tasks.joined(self._recovery)

    async def _recover(self) -> None:
        if self._lost_to_another:
            return
        same = self._lock.same_folder()
        try:
            self._lock.retake()
        except FlyatcError as error:
            self._lost_to_another = True
            self._log.event("error", "the data folder was deleted, and cannot be restored", reason=str(error))
        if same and not self._lost_to_another:
            self._log.event("warning", "the lock of the data folder was deleted: made again", folder=str(self._data))
            return
        self.losses += 1
        message = "the data folder was deleted: its apps are killed, and what they had not saved is lost"
        self._log.event("error", message, folder=str(self._data))
        await self._fleet.kill_deleted(WHY, gone=lambda _: True)
        if self._lost_to_another:
            return self._stop("the data folder belongs to another flyatc")
        try:
            self._rewrite()
        except (OSError, FlyatcError) as error:
            self._log.event("error", "the data folder cannot be written", reason=str(error))
            return None
        self._log.event("warning", "the data folder was made again: tenants go on from the store")
        return None
