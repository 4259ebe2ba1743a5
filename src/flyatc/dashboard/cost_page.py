"""The cost of this machine and its users for a month on Fly, by real use: as flyatc cost."""

import asyncio
from time import monotonic

from aiohttp import web

from flyatc.cost import bill
from flyatc.cost.bill import Bill
from flyatc.cost.prices import REGIONS, Prices
from flyatc.cost.usage import Usage
from flyatc.dashboard import pages
from flyatc.dashboard.site import Site
from flyatc.kit import tasks
from flyatc.kit.async_cache import AsyncCache
from flyatc.kit.errors import FlyatcError

KEPT = 60.0  # s; the use lists the bytes of all users in the store
TILE_KEPT = 3600.0  # s
PATIENCE = 8.0  # s; the page waits no longer for the use
PERIODS = (1, 7, 30, 62)  # days
MOST_ROWS = 500


class Costs:
    """The use of this machine, kept for a while."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._usage: AsyncCache[int, Usage] = AsyncCache(site.operations.usage, lambda _: KEPT, len(PERIODS))
        self._tile: tuple[Bill, float] | None = None  # and when it was made
        self._looking: asyncio.Task[None] | None = None

    async def bill(self, days: int, size: str, region: str) -> Bill | None:
        """The bill of the last ``days``; None: it is not known yet. Raises FlyatcError."""
        try:
            async with asyncio.timeout(PATIENCE):
                usage = await self._usage.get(days)
        except TimeoutError:
            return None
        machine = bill.size(size or None, region or None, usage.machine or bill.supposed(usage))
        return bill.bill(usage, machine, Prices())

    def last(self) -> Bill | None:
        """The bill of this machine, if it is known by now; looked up in the background, once an hour."""
        known = self._tile
        if (known is None or monotonic() - known[1] > TILE_KEPT) and (self._looking is None or self._looking.done()):
            self._looking = tasks.start(self._look(), "cost of this machine")
        return None if known is None else known[0]

    async def _look(self) -> None:
        try:
            usage = await self._usage.get(PERIODS[2])
            self._tile = bill.bill(usage, usage.machine or bill.supposed(usage), Prices()), monotonic()
        except FlyatcError as error:
            self._site.log.event("warning", "dashboard: the cost is not known", reason=str(error))
            self._tile = None if self._tile is None else (self._tile[0], monotonic())


COSTS: web.AppKey[Costs] = web.AppKey("costs", Costs)


def routes(site: Site) -> list[web.RouteDef]:
    async def page(request: web.Request) -> web.Response:
        query = request.query
        days = next((one for one in PERIODS if str(one) == query.get("days")), PERIODS[2])
        size, region = query.get("size", "").strip(), query.get("region", "")
        found, fault = None, ""
        try:
            found = await request.app[COSTS].bill(days, size, region if region in REGIONS else "")
        except FlyatcError as error:
            fault = str(error)
        users = sorted(found.users.items(), key=lambda one: (-one[1].total, one[0])) if found is not None else []
        return pages.render(
            request, "cost.html", bill=found, users=users[:MOST_ROWS], more=max(0, len(users) - MOST_ROWS), days=days,
            size=size, region=region, fault=fault, periods=PERIODS, regions=sorted(REGIONS),
        )  # fmt: skip

    return [web.get("cost", page)]
