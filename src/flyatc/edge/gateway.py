"""What the edge keeps for one running app: the pool of its connections and the open tunnels."""

import asyncio
from collections.abc import Callable
from time import monotonic

from flyatc.wire import client, tunnel

CONNECT_SECONDS = 5.0
IDLE_SECONDS, TAKING_SECONDS = 15, 300  # of another machine: see AppConnection.notice_silence


def always() -> bool:
    return True


class Gateway:
    """Made when the app is ready; ``tenants`` tells when it is to stop."""

    __slots__ = ("_pool", "_tunnels", "may_answer", "named")

    def __init__(
        self,
        host: str,
        port: int,
        may_answer: Callable[[], bool] = always,
        *,
        replays: bool = False,
        named: str = client.APP,
    ) -> None:
        """``may_answer``: whether what the app says may go out at this very moment; ``replays``: see
        ``head.AnswerParser``; ``named``: what it is called in reasons."""
        self.may_answer, self.named = may_answer, named
        self._pool = client.Pool(host, port, replays=replays, named=named)
        self._tunnels: set[tunnel.Tunnel] = set()

    def idle(self, *, repeatable: bool) -> client.AppConnection | None:
        return self._pool.idle(repeatable=repeatable)

    async def dial(self) -> client.AppConnection:
        """Raises OSError, TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._pool.dial()

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

    async def dial(self) -> client.AppConnection:
        connection = await super().dial()
        connection.notice_silence(IDLE_SECONDS, TAKING_SECONDS)
        return connection
