"""What the edge keeps for one running app: the pool of its connections and the open tunnels."""

import asyncio

from flyatc.wire import client, tunnel

CONNECT_SECONDS = 5.0


class Gateway:
    """Made when the app is ready; ``tenants`` tells when it is to stop."""

    __slots__ = ("_pool", "_tunnels")

    def __init__(self, host: str, port: int) -> None:
        self._pool = client.Pool(host, port)
        self._tunnels: set[tunnel.Tunnel] = set()

    def idle(self, *, repeatable: bool) -> client.AppConnection | None:
        return self._pool.idle(repeatable=repeatable)

    async def dial(self) -> client.AppConnection:
        """Raises OSError, TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._pool.dial()

    def opened(self, one: tunnel.Tunnel) -> None:
        self._tunnels.add(one)

    def ended(self, one: tunnel.Tunnel) -> None:
        self._tunnels.discard(one)

    def drain(self) -> None:
        for one in list(self._tunnels):
            one.cut()

    def close(self) -> None:
        self.drain()
        self._pool.close()
