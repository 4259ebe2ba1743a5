"""Ways to our other machines over the private network; one that sleeps is woken through the Machines API."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from flyatc.edge.gateway import FarGateway
from flyatc.edge.onward import Unreached
from flyatc.fly import network, told
from flyatc.fly.api_errors import ApiError, Conflict, NotFound
from flyatc.fly.dns import Dns
from flyatc.fly.errors import Absent, Unanswered
from flyatc.fly.machine import Machine
from flyatc.fly.machines_api import MachinesApi
from flyatc.kit.errors import FlyatcError
from flyatc.kit.recall import Recall
from flyatc.routing.replay import QUICK, Target

FOUND = 5.0  # seconds for which an address is kept that takes connections
FIRST, MOST = 0.1, 0.4  # seconds until the next try
WOKEN = 2.0  # seconds for which a machine that was told to start is not told again
TOKENLESS = "and nothing here may wake it: fly secrets set FLY_API_TOKEN=$(fly tokens create deploy)"


@dataclass
class _Search:
    """``why``: what came of the last try."""

    to: Target
    why: str = "nobody was asked"
    anew: bool = False  # what was found before is of no use
    address: str | None = None  # as the Machines API tells it


class Ways:
    """``api``: of our app; None without a token. ``port``: on which each machine listens for the others; ``patience``:
    seconds, waking included; ``replays``: see ``head.AnswerParser``."""

    def __init__(
        self,
        me: Machine,
        dns: Dns,
        api: MachinesApi | None,
        port: int,
        patience: float,
        environ: Mapping[str, str],
        *,
        replays: bool,
    ) -> None:
        self._me, self._dns, self._api, self._replays = me, dns, api, replays
        self._port, self._patience, self._environ = port, patience, environ
        self._found: Recall[str, list[str]] = Recall(dns.addresses, lambda _: FOUND, 1000)
        self._woken: Recall[str, str] = Recall(self._start, lambda _: WOKEN, 1000)

    async def reach(self, to: Target, *, quick: bool) -> FarGateway:
        """See edge.onward.Ways. Raises Unreached."""
        search, patience = _Search(to), min(self._patience, QUICK) if quick else self._patience
        try:
            async with asyncio.timeout(patience):
                return await self._search(search)
        except TimeoutError:
            reason = f"{to} is not reached on the private network within {patience:g} s: {search.why}"
            raise Unreached(reason, after=patience) from None

    async def _search(self, search: _Search) -> FarGateway:
        pause = FIRST
        while True:
            addresses = await self._addresses(search)
            for address in addresses:
                if (way := await self._dial(search, address)) is not None:
                    return way
            if search.anew or not addresses:
                await self._wake(search, known=bool(addresses))
                await asyncio.sleep(pause)
            search.anew = True
            pause = min(2 * pause, MOST)

    async def _addresses(self, search: _Search) -> list[str]:
        """Of machines which run, by the DNS. Where it does not answer, what the API has told."""
        to = search.to
        name = f"{to.id}.vm.{to.app}.internal" if to.id is not None else f"{to.region}.{to.app}.internal"
        try:
            found = await (self._dns.addresses(name) if search.anew else self._found.get(name))
        except Absent as error:
            search.why = f"it does not run ({error})"
            return []
        except Unanswered as error:
            search.why = str(error)
            return [] if search.address is None else [search.address]
        own = self._me.address and told.ip(self._me.address)
        others = [one for one in found if told.ip(one) != own]
        if not others:
            search.why = "only this machine runs there"
        return others

    async def _dial(self, search: _Search, address: str) -> FarGateway | None:
        try:
            where = network.real(address, self._port, self._environ)
            way = FarGateway(str(where.host), where.port, replays=self._replays, named=str(search.to))
            await way.make_ready()
        except (OSError, TimeoutError, FlyatcError) as error:
            search.why = f"{address} takes no connection: {error or 'time-out'}"
            return None
        return way

    async def _wake(self, search: _Search, *, known: bool) -> None:
        """``known``: it has an address, so that it may be about to listen. Raises Unreached where nothing will come."""
        to = search.to
        if to.id is None or self._api is None or to.app != self._me.app:
            if known:
                return
            raise Unreached(f"{to}: {search.why}" + (f", {TOKENLESS}" if self._api is None and to.id else ""))
        try:
            search.address = await self._woken.get(to.id) or None
        except Conflict as error:  # it is just stopping, or being replaced
            search.why = str(error)
        except NotFound as error:
            raise Unreached(f"{to}: {error}") from error
        except ApiError as error:
            search.why = str(error)
            if not known:
                raise Unreached(f"{to} cannot be woken: {error}") from error

    async def _start(self, machine: str) -> str:
        """Its address; "" where that is not told."""
        assert self._api is not None
        await self._api.start(machine)
        return (await self._api.get(machine)).private_ip
