"""What the edge keeps for one running app: the pool of its connections and the open tunnels.

The way to an app that was only told its port: it may listen on 127.0.0.1, on ::1, or on both.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from flyatc.wire import tunnel, upstream_connection

CONNECT_SECONDS = 5.0
IDLE_SECONDS, TAKING_SECONDS = 15, 300  # of another machine: see AppConnection.notice_silence


def always() -> bool:
    return True


class PortOwner(Protocol):
    """Tells whether the app's own process listens on its port (``process.port_owner``)."""

    async def admit(self, host: str) -> None:
        """With each new connection, before a byte is sent. Raises ConnectionRefusedError where another process has the
        port."""

    def doubt(self) -> None:
        """A connection was refused."""


class Gateway:
    """Made when the app is ready; ``tenants`` tells when it is to stop."""

    __slots__ = ("_owner", "_pool", "_tunnels", "may_answer", "named")

    def __init__(
        self,
        host: str,
        port: int,
        may_answer: Callable[[], bool] = always,
        *,
        replays: bool = False,
        named: str = upstream_connection.APP,
        owner: PortOwner | None = None,
    ) -> None:
        """``owner``: of the app's port; None: whoever listens there is the app.

        ``may_answer``: whether what the app says may go out at this very moment; ``replays``: see
        ``head.ResponseParser``; ``named``: what it is called in reasons."""
        self.may_answer, self.named = may_answer, named
        self._owner = owner
        self._pool = upstream_connection.Pool(host, port, replays=replays, named=named)
        self._tunnels: set[tunnel.Tunnel] = set()

    def idle(self, *, repeatable: bool) -> upstream_connection.AppConnection | None:
        return self._pool.idle(repeatable=repeatable)

    async def dial(self) -> upstream_connection.AppConnection:
        """Raises OSError, TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._checked(self._pool)

    async def _checked(self, pool: upstream_connection.Pool) -> upstream_connection.AppConnection:
        """A new connection, to the app and to nobody else. Raises OSError."""
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
        """Dials, for whoever asks for an idle connection at once. Raises OSError, TimeoutError."""
        connection = await self.dial()
        connection.since = monotonic()
        self._pool.take_back(connection)

    def opened(self, one: tunnel.Tunnel) -> None:
        self._tunnels.add(one)

    @property
    def tunnels(self) -> int:
        """How many are open."""
        return len(self._tunnels)

    def ended(self, one: tunnel.Tunnel) -> None:
        self._tunnels.discard(one)

    def drain(self) -> None:
        for one in list(self._tunnels):
            one.cut()

    def close(self) -> None:
        self.drain()
        self._pool.close()


class FarGateway(Gateway):
    """To another machine of ours, which may vanish without a word."""

    __slots__ = ()

    async def dial(self) -> upstream_connection.AppConnection:
        connection = await super().dial()
        connection.notice_silence(IDLE_SECONDS, TAKING_SECONDS)
        return connection


class Localhost(Gateway):
    """Dials the address that answered last, then the other. Who runs one app alone trusts it: it may replay."""

    __slots__ = ("_other",)

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, replays=True)
        self._other = upstream_connection.Pool("::1", port, replays=True)

    def belongs_to(self, owner: PortOwner) -> None:
        """The app has been started: from now on only it is spoken to."""
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
        self._pool, self._other = self._other, self._pool
        return connection

    def close(self) -> None:
        super().close()
        self._other.close()
