"""The way to an app that was only told its port: it may listen on 127.0.0.1, on ::1, or on both."""

import asyncio

from flyatc.edge import gateway
from flyatc.wire import client


class Localhost(gateway.Gateway):
    """Dials the address that answered last, then the other. Who runs one app alone trusts it: it may replay."""

    __slots__ = ("_other",)

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, replays=True)
        self._other = client.Pool("::1", port, replays=True)

    def belongs_to(self, owner: gateway.PortOwner) -> None:
        """The app has been started: from now on only it is spoken to."""
        self._owner = owner

    async def dial(self) -> client.AppConnection:
        try:
            return await super().dial()
        except OSError as refused:
            try:
                async with asyncio.timeout(gateway.CONNECT_SECONDS):
                    connection = await self._checked(self._other)
            except OSError:
                raise refused from None
        self._pool, self._other = self._other, self._pool
        return connection

    def close(self) -> None:
        super().close()
        self._other.close()
