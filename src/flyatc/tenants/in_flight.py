"""Counters of the requests in flight, and one counted request."""

import asyncio
from collections.abc import Callable
from typing import Final

from flyatc.tenants.interfaces import Gateway


class InFlight:
    """Counter of requests, tunnels and waits that knows since when it is zero.

    ``within``: a parent counter of the non-zero counters, without a parent of its own. ``quiet`` is called whenever the
    count drops to zero."""

    __slots__ = ("_empty", "_now", "_quiet", "_within", "count", "quiet_since")

    def __init__(self, within: "InFlight | None" = None, quiet: Callable[[], None] | None = None) -> None:
        self._now = asyncio.get_running_loop().time
        self._within, self._quiet = within, quiet
        self._empty: asyncio.Event | None = None
        self.count = 0
        self.quiet_since = self._now()  # the loop's clock; meaningless while count > 0

    def enter(self) -> None:
        self.count += 1
        if self.count == 1 and self._within is not None:
            self._within.count += 1  # ``enter``, without its call: it has no parent

    def exit(self) -> None:
        self.count -= 1
        if self.count:
            return
        self.quiet_since = self._now()
        if self._empty is not None:
            self._empty.set()
        if self._within is not None:
            self._within.exit()
        if self._quiet is not None:
            self._quiet()

    async def wait_until_zero(self) -> None:
        """Wait until the count is zero. For one caller, at a time when no new requests are admitted."""
        if self.count:
            self._empty = asyncio.Event()
            await self._empty.wait()


class InFlightRequest:
    """One request, served through ``gateway``. The app is not idle before ``end``."""

    __slots__ = ("_requests", "gateway", "port")

    def __init__(self, gateway: Gateway, port: int, requests: InFlight) -> None:
        """Take over one count of ``requests``, which the caller has already added."""
        self.gateway: Final = gateway
        self.port: Final = port
        self._requests: InFlight | None = requests

    def end(self) -> None:
        """May be called more than once."""
        requests, self._requests = self._requests, None
        if requests is not None:
            requests.exit()
