"""The daemon's parts, as seen by whoever puts the machine to sleep (daemon.sleep.Machine)."""

import asyncio
from collections.abc import Callable
from time import monotonic

from flyatc.config.schema import Config
from flyatc.daemon import sleepless
from flyatc.daemon.kept import kept
from flyatc.daemon.parts import Parts
from flyatc.kit.errors import SaveFailed

MOST_NAMED = 5  # tenants of whom the log is told


class Resting:
    """``looked``: set once it is known what an earlier run left unsaved."""

    def __init__(self, parts: Parts, config: Callable[[], Config], looked: asyncio.Event) -> None:
        self._parts, self._config, self._looked = parts, config, looked

    def quiet_for(self) -> float:
        """Who is served without an app counts as well. Who is held by a pause is no visitor of any app, but one of
        ours."""
        parts = self._parts
        if parts.recorder.counters.in_flight or parts.barrier.waiting():
            return 0.0
        return min(parts.fleet.quiet_for(), monotonic() - parts.recorder.served_at)

    async def settle(self) -> None:
        """Raises SaveFailed."""
        await self._looked.wait()
        await self._parts.fleet.rest("nobody has come for long")
        try:
            await self._settled()
        except OSError as error:
            raise SaveFailed(f"what is on the disk cannot be read: {error}") from error

    async def _settled(self) -> None:
        """By what is on the disk, of whoever it is."""
        vault, config = self._parts.vault, self._config()
        tenants = [one for one in await kept(config) if not vault.holds(one)]
        if unsaved := await vault.unsaved(tenants):
            names = ", ".join(one.address for one in unsaved[:MOST_NAMED])
            raise SaveFailed(f"not everything is saved: {names}{'…' if len(unsaved) > MOST_NAMED else ''}")
        if sleepless.loses_disk(config, self._parts.environ) and (stranded := await vault.stranded(tenants)):
            raise SaveFailed(f"what was set aside is not in the store yet: {stranded[0]}")

    async def rest(self) -> None:
        """Raises OwnershipUnknown. The connections go before: none is there to be dead afterwards."""
        await self._parts.owning.rest()
        await self.forget()

    async def slept(self) -> bool:
        return await self._parts.owning.slept()

    def wake(self) -> None:
        self._parts.owning.wake()

    async def forget(self) -> None:
        await self._parts.forget()
