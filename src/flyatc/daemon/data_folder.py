"""The data folder while the daemon runs: somebody may delete it, or a part of it.

Apps go on writing to files that have no name any more: nobody can save those. So an app whose folder is gone is killed,
what it had not saved counts as lost, and the tenant goes on from the store. Where the whole folder is gone, lock,
identity and maintenance are written again first, so that no second daemon can take the place."""

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
    """``rewrite`` puts on disk again what the daemon keeps in memory; raises OSError, FlyatcError. ``stop`` ends the
    daemon."""

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
        self.losses = 0  # how often something was deleted

    async def watch(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(LOOK)
            if not self._lock.holds():
                await self._recovered()
            elif await self._fleet.lose(WHY, gone=lambda data: not data.is_dir()):
                self.losses += 1

    async def present(self) -> None:
        """Returns once the folder is there and ours. Raises OwnershipUnknown."""
        if not self._lock.holds():
            await self._recovered()
        if self._lost_to_another or not self._lock.holds():
            raise OwnershipUnknown(f"the data folder {self._data} was deleted, and is not to be had again")

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
            self._log.event("error", "the data folder was deleted, and is not to be had again", reason=str(error))
        if same and not self._lost_to_another:
            self._log.event("warning", "the lock of the data folder was deleted: made again", folder=str(self._data))
            return
        self.losses += 1
        message = "the data folder was deleted: its apps are killed, and what they had not saved is lost"
        self._log.event("error", message, folder=str(self._data))
        await self._fleet.lose(WHY, gone=lambda _: True)
        if self._lost_to_another:
            return self._stop("the data folder belongs to another flyatc")
        try:
            self._rewrite()
        except (OSError, FlyatcError) as error:
            self._log.event("error", "the data folder cannot be written", reason=str(error))
            return None
        self._log.event("warning", "the data folder was made again: tenants go on from the store")
        return None
