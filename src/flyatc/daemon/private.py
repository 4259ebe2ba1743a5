"""Requests which Fly Proxy cannot replay: the door for those of our other machines, and the way to them."""

import asyncio
import contextlib
from collections.abc import Mapping

from flyatc.config.schema import Config, Limits
from flyatc.daemon.ways import Ways
from flyatc.edge.handler import Handler
from flyatc.edge.listener import Listener
from flyatc.edge.onward import Onwards
from flyatc.edge.private import PrivateDoor
from flyatc.fly import network
from flyatc.fly.dns import Dns
from flyatc.fly.machine import Machine
from flyatc.fly.machines_api import MachinesApi
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.routing.sealed import Seals
from flyatc.wire import server

LAST_SECONDS = 0.2  # for answers which are written, and not yet taken


class Private:
    """Made before the ``Handler``, which it is given in ``open``. ``onwards``: the ways, or why there are none."""

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
        """``api``: None where we have no token."""
        self._config, self._environ, self._log = config, environ, log
        self._listener: Listener | None = None
        self.onwards: Onwards | str
        try:
            self._listener = self._bound(me, secret)
        except FlyatcError as error:
            self.onwards = str(error)
            if config.fly.private:
                log.event("warning", "requests which Fly Proxy cannot replay are refused", reason=str(error))
            return
        assert secret is not None
        self._seals = Seals(me, secret)
        ways = Ways(me, dns, api, config.fly.private, config.replay.timeout, environ, replays=config.replay.trust_app)
        self.onwards = Onwards(self._seals, ways)

    def _bound(self, me: Machine, secret: bytes | None) -> Listener:
        """Raises FlyatcError."""
        if not self._config.fly.private:
            raise FlyatcError("fly.private is 0")
        if secret is None:
            raise FlyatcError("the machines share no secret")
        if me.address is None:
            raise FlyatcError("FLY_PRIVATE_IP is not set")
        return Listener(network.real(me.address, self._config.fly.private, self._environ), "fly.private")

    async def open(self, handler: Handler, limits: Limits) -> None:
        if self._listener is not None:
            door = PrivateDoor(self._seals, handler)
            await self._listener.open(server.Server(door.handle, door.refuse, limits))
            self._log.event("info", "open to the other machines", on=str(self._listener.where))

    def use(self, limits: Limits) -> None:
        """At a reload."""
        if self._listener is not None:
            self._listener.use(limits)

    def shut(self) -> None:
        """See edge.listener."""
        if self._listener is not None:
            self._listener.shut()

    async def close(self, patience: float) -> None:
        """What is being forwarded has so many seconds; what was forwarded to us had its time with the fleet."""
        if self._listener is None or isinstance(self.onwards, str):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.onwards.over()
        await self._listener.close(LAST_SECONDS)
