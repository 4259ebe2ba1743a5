"""Who is here: requests in flight, open tunnels, and those who wait to be served."""

import asyncio
from collections.abc import Callable
from typing import Final

from flyatc.tenants.ports import Gateway


class Visitors:
    """A count which knows since when it is zero. ``within``: a larger circle, which counts the circles with visitors.

    ``quiet`` is called each time the last one has left."""

    __slots__ = ("_nobody", "_now", "_quiet", "_within", "count", "quiet_since")

    def __init__(self, within: "Visitors | None" = None, quiet: Callable[[], None] | None = None) -> None:
        self._now = asyncio.get_running_loop().time
        self._within, self._quiet = within, quiet
        self._nobody: asyncio.Event | None = None
        self.count = 0
        self.quiet_since = self._now()  # the loop's clock; means nothing while somebody is here

    def come(self) -> None:
        self.count += 1
        if self.count == 1 and self._within is not None:
            self._within.come()

    def leave(self) -> None:
        self.count -= 1
        if self.count:
            return
        self.quiet_since = self._now()
        if self._nobody is not None:
            self._nobody.set()
        if self._within is not None:
            self._within.leave()
        if self._quiet is not None:
            self._quiet()

    async def gone(self) -> None:
        """Returns when nobody is here. For one caller, at a time when nobody new is let in."""
        if self.count:
            self._nobody = asyncio.Event()
            await self._nobody.wait()


class Visit:
    """One visitor, served by the app behind ``gateway``. The app is not idle before ``end``."""

    __slots__ = ("_visitors", "gateway", "port")

    def __init__(self, gateway: Gateway, port: int, visitors: Visitors) -> None:
        """The visitor has been counted already; from now on the visit owns his place in the count."""
        self.gateway: Final = gateway
        self.port: Final = port
        self._visitors: Visitors | None = visitors

    def end(self) -> None:
        """May be called more than once."""
        visitors, self._visitors = self._visitors, None
        if visitors is not None:
            visitors.leave()
