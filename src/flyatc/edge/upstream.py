"""Gateways to running apps and peer machines: the connection pool, dialing, and the open tunnels."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from flyatc.edge import exchange
from flyatc.wire import buffers, tunnel, upstream_connection, upstream_pool

CONNECT_SECONDS = 5.0
IDLE_SECONDS, TAKING_SECONDS = 15, 300  # for another machine: see AppConnection.notice_silence


def always() -> bool:
    return True


class PortOwner(Protocol):
    """Checks that the app's own process listens on its port (``process.ports``)."""

    async def admit(self, host: str) -> None:
        """Check a new connection before a byte is sent. Raises ConnectionRefusedError if another process has the
        port."""

    def doubt(self) -> None:
        """Note that a connection was refused: the port's owner must be checked again."""


class Gateway:
    """Connections and tunnels of one running app. Made when the app is ready; ``tenants`` drains and closes it."""

    __slots__ = ("_owner", "_tunnels", "may_answer", "named", "pool")

    def __init__(
        self,
        host: str,
        port: int,
        may_answer: Callable[[], bool] = always,
        *,
        replays: bool = False,
        named: str = upstream_pool.APP,
        owner: PortOwner | None = None,
    ) -> None:
        """``owner``: checks who listens on the app's port; None: no check.

        ``may_answer``: called to check whether a response of the app may be sent now; ``replays``: see
        ``head_parser.ResponseParser``; ``named``: its name in error texts."""
        self.may_answer, self.named = may_answer, named
        self._owner = owner
        self.pool = upstream_pool.Pool(host, port, replays=replays, named=named)
        self._tunnels: set[tunnel.Tunnel] = set()

    def idle(self, *, repeatable: bool) -> upstream_connection.AppConnection | None:
        """Return an idle connection, None if there is none (see ``Pool.idle``)."""
        return self.pool.idle(repeatable=repeatable)

    async def dial(self) -> upstream_connection.AppConnection:
        """Open a new connection. Raises OSError, TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._checked(self.pool)

    async def _checked(self, pool: upstream_pool.Pool) -> upstream_connection.AppConnection:
        """Open a new connection, and check that the app's own process accepts it. Raises OSError."""
        try:
            connection = await pool.dial()
        except OSError:
            if self._owner is not None:
                self._owner.doubt()
            raise
        if self._owner is None:
            return connection
        try:
            await self._owner.admit(pool.host)
        except BaseException:
            connection.close()
            raise
        return connection

    async def make_ready(self) -> None:
        """Open a connection and put it into the pool, for the next ``idle``. Raises OSError, TimeoutError."""
        connection = await self.dial()
        connection.since = monotonic()
        self.pool.take_back(connection)

    def join(self, to: exchange.Exchange, app: upstream_connection.AppConnection) -> None:
        """Relay both connections to each other, after the 101 was sent. ``to`` ends with the tunnel."""
        client, ahead = to.upgrade()
        transport, early = app.give_away()
        one: tunnel.Tunnel

        def ended(octets: int) -> None:
            to.sent += octets
            self._tunnels.discard(one)
            to.tunnels(-1)
            to.end()

        beside = to.head.size * buffers.COPIES
        one = tunnel.Tunnel(client, transport, ended, to.buffers, beside)
        self._tunnels.add(one)
        to.tunnels(1)
        if early:
            client.write(early)
        if ahead:
            transport.write(ahead)

    @property
    def tunnels(self) -> int:
        """The number of open tunnels."""
        return len(self._tunnels)

    def drain(self) -> None:
        """Close all tunnels; requests in flight continue."""
        for one in list(self._tunnels):
            one.cut()

    def close(self) -> None:
        """Close all tunnels and cut all connections."""
        self.drain()
        self.pool.close()


class FarGateway(Gateway):
    """A gateway to a peer machine, whose connections notice if it vanishes without a FIN."""

    __slots__ = ()

    async def dial(self) -> upstream_connection.AppConnection:
        connection = await super().dial()
        connection.notice_silence(IDLE_SECONDS, TAKING_SECONDS)
        return connection


class Localhost(Gateway):
    """A gateway to the only app of ``flyatc run``, which may listen on 127.0.0.1, ::1 or both: dials the address that
    worked last, then the other. The app is trusted, so it may send Fly-Replay."""

    __slots__ = ("_other",)

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, replays=True)
        self._other = upstream_pool.Pool("::1", port, replays=True)

    def check_owner(self, owner: PortOwner) -> None:
        """Check the owner of the port from now on: the app has been started."""
        self._owner = owner

    async def dial(self) -> upstream_connection.AppConnection:
        try:
            return await super().dial()
        except OSError as refused:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._checked(self._other)
            except OSError:
                raise refused from None
        self.pool, self._other = self._other, self.pool
        return connection

    def close(self) -> None:
        super().close()
        self._other.close()
