"""Connect to our other machines over the private network, and listen for them. Used for requests which Fly Proxy cannot
replay. A machine that sleeps is woken through the Machines API.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import time

from flyatc.config.schema import Config, Limits
from flyatc.edge import headers
from flyatc.edge.forward import Forward
from flyatc.edge.handler import Handler
from flyatc.edge.listener import Listener
from flyatc.edge.peer_forward import PeerForwards, Unreachable
from flyatc.edge.upstream import FarGateway
from flyatc.fly import dns_answers, environment
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import ApiError, Conflict, NotFound
from flyatc.fly.dns_answers import NoRecord, Unanswered
from flyatc.fly.dns_client import Dns
from flyatc.fly.environment import Machine
from flyatc.kit.async_cache import AsyncCache
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.routing import request_signature
from flyatc.routing.replay import QUICK, Target
from flyatc.routing.request_signature import RequestSigner
from flyatc.wire import server
from flyatc.wire.errors import BadMessage

FOUND = 5.0  # seconds for which a working address is cached
FIRST, MOST = 0.1, 0.4  # seconds until the next try
WOKEN = 2.0  # seconds between two requests to start the same machine
TOKENLESS = "and nothing here may wake it: fly secrets set FLY_API_TOKEN=$(fly tokens create deploy)"


@dataclass
class _Search:
    """State of one search. ``why``: result of the last attempt."""

    to: Target
    why: str = "no lookup was made"
    anew: bool = False  # the cached addresses did not work
    address: str | None = None  # from the Machines API


class PeerDialer:
    """Dial other machines. ``api``: of our app; None without a token. ``port``: each machine's private listener;
    ``patience``: seconds, waking included; ``replays``: see ``head_parser.ResponseParser``."""

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
        self._found: AsyncCache[str, list[str]] = AsyncCache(dns.addresses, lambda _: FOUND, 1000)
        self._woken: AsyncCache[str, str] = AsyncCache(self._start, lambda _: WOKEN, 1000)

    async def reach(self, to: Target, *, quick: bool) -> FarGateway:
        """See edge.peer_forward.PeerConnections. Raises Unreachable."""
        search, patience = _Search(to), min(self._patience, QUICK) if quick else self._patience
        try:
            async with asyncio.timeout(patience):
                return await self._search(search)
        except TimeoutError:
            reason = f"{to} is not reached on the private network within {patience:g} s: {search.why}"
            raise Unreachable(reason, after=patience) from None

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
        """Addresses of running machines by the DNS; if it does not answer, the one from the API."""
        to = search.to
        name = f"{to.id}.vm.{to.app}.internal" if to.id is not None else f"{to.region}.{to.app}.internal"
        try:
            found = await (self._dns.addresses(name) if search.anew else self._found.get(name))
        except NoRecord as error:
            search.why = f"it does not run ({error})"
            return []
        except Unanswered as error:
            search.why = str(error)
            return [] if search.address is None else [search.address]
        own = self._me.address and dns_answers.ip(self._me.address)
        others = [one for one in found if dns_answers.ip(one) != own]
        if not others:
            search.why = "only this machine runs there"
        return others

    async def _dial(self, search: _Search, address: str) -> FarGateway | None:
        try:
            where = environment.reachable_address(address, self._port, self._environ)
            way = FarGateway(str(where.host), where.port, replays=self._replays, named=str(search.to))
            await way.make_ready()
        except (OSError, TimeoutError, FlyatcError) as error:
            search.why = f"{address} takes no connection: {error or 'time-out'}"
            return None
        return way

    async def _wake(self, search: _Search, *, known: bool) -> None:
        """``known``: it has an address, so it may be about to listen. Raises Unreachable if nothing will come."""
        to = search.to
        if to.id is None or self._api is None or to.app != self._me.app:
            if known:
                return
            raise Unreachable(f"{to}: {search.why}" + (f", {TOKENLESS}" if self._api is None and to.id else ""))
        try:
            search.address = await self._woken.get(to.id) or None
        except Conflict as error:  # it is just stopping, or being replaced
            search.why = str(error)
        except NotFound as error:
            raise Unreachable(f"{to}: {error}") from error
        except ApiError as error:
            search.why = str(error)
            if not known:
                raise Unreachable(f"{to} cannot be woken: {error}") from error

    async def _start(self, machine: str) -> str:
        """Start the machine. Returns its private address, or "" if unknown."""
        assert self._api is not None
        await self._api.start(machine)
        return (await self._api.get(machine)).private_ip


class PrivateHandler:
    """Handler of the private network: verifies signatures. Serves requests for users, and the status of this machine to
    the others; not the server's health."""

    def __init__(self, signer: RequestSigner, within: Handler, status: Callable[[], bytes]) -> None:
        """``status``: the body of the response to STATUS_PATH."""
        self._signer, self._within, self._status = signer, within, status

    def handle(self, to: Forward) -> None:
        head = to.head
        came = self._signer.open(head.every(request_signature.HEADER), head.method, headers.target(head), time())
        if isinstance(came, request_signature.ForwardedRequest):
            head.drop(request_signature.HEADER)
            to.peer = to.remote = came.peer or to.peer
            if came.user == request_signature.NO_USER and head.path == request_signature.STATUS_PATH:
                return self._within.respond_silently(to, self._status())
        return self._within.handle_forwarded(to, came)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._within.refuse(of, fault, started)


LAST_SECONDS = 0.2  # for responses which are not yet sent


class PrivateListener:
    """Listener for requests forwarded by other machines. ``forwards``: connections to them, or why there are none."""

    def __init__(
        self,
        config: Config,
        me: Machine,
        secret: bytes | None,
        dns: Dns,
        api: MachinesApi | None,
        environ: Mapping[str, str],
        log: Log,
    ) -> None:
        """``api``: None without a token."""
        self._config, self._environ, self._log = config, environ, log
        self._listener: Listener | None = None
        self.forwards: PeerForwards | str
        try:
            self._listener = self._bound(me, secret)
        except FlyatcError as error:
            self.forwards = str(error)
            if config.fly.private:
                log.event("warning", "requests which Fly Proxy cannot replay are refused", reason=str(error))
            return
        assert secret is not None
        self._signer = RequestSigner(me, secret)
        dialer = PeerDialer(
            me, dns, api, config.fly.private, config.replay.timeout, environ, replays=config.replay.trust_app
        )
        self.forwards = PeerForwards(self._signer, dialer)

    def _bound(self, me: Machine, secret: bytes | None) -> Listener:
        """Bind the private address. Raises FlyatcError if forwarding is off or impossible."""
        if not self._config.fly.private:
            raise FlyatcError("fly.private is 0")
        if secret is None:
            raise FlyatcError("the machines share no secret")
        if me.address is None:
            raise FlyatcError("FLY_PRIVATE_IP is not set")
        return Listener(
            environment.reachable_address(me.address, self._config.fly.private, self._environ), "fly.private"
        )

    async def open(self, handler: Handler, limits: Limits, status: Callable[[], bytes]) -> None:
        """``status``: see PrivateHandler."""
        if self._listener is not None:
            door = PrivateHandler(self._signer, handler, status)
            warn = partial(self._log.event, "warning")
            await self._listener.open(server.Server(door.handle, door.refuse, limits, handler.exchange, warn))
            self._log.event("info", "open to the other machines", on=str(self._listener.where))

    def use(self, limits: Limits) -> None:
        """Apply reloaded limits."""
        if self._listener is not None:
            self._listener.use(limits)

    def shut(self) -> None:
        """Stop accepting: see edge.listener."""
        if self._listener is not None:
            self._listener.shut()

    async def close(self, patience: float) -> None:
        """Close, after at most ``patience`` seconds for requests which we forward. Those forwarded to us ended with the
        fleet."""
        if self._listener is None or isinstance(self.forwards, str):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.forwards.over()
        await self._listener.close(LAST_SECONDS)
