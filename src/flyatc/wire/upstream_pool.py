"""The keep-alive pool of connections to one app. Only dialing awaits."""

import asyncio
from time import monotonic

from flyatc.wire.upstream_connection import KEEP_IDLE, AppConnection

FRESH_SECONDS = 1.0  # an older idle connection may be closing: not used for requests that must not be sent twice
APP = "the app"


class Pool:
    """The connections to one app; idle ones are reused, the last used first. ``replays``: see
    ``head_parser.ResponseParser``; ``named``: its name in error texts."""

    def __init__(self, host: str, port: int, *, replays: bool = False, named: str = APP) -> None:
        self.host, self._port, self.replays, self.named = host, port, replays, named
        self.unused: list[AppConnection] = []
        self._all: set[AppConnection] = set()

    def idle(self, *, repeatable: bool) -> AppConnection | None:
        """Return an idle connection, None if there is none. Only a fresh one if the request is not ``repeatable``."""
        unused = self.unused
        while unused:
            connection = unused[-1]
            transport, age = connection.transport, monotonic() - connection.since
            if transport is None or age > connection.idle_limit or transport.is_closing():
                unused.pop()
                connection.close()
                continue
            if not repeatable and age > FRESH_SECONDS:
                return None
            return unused.pop()
        return None

    async def dial(self) -> AppConnection:
        """Open a new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: AppConnection(self), self.host, self._port)
        self._all.add(connection)
        return connection

    def take_back(self, connection: AppConnection) -> None:
        if len(self.unused) < KEEP_IDLE:
            self.unused.append(connection)
        else:
            connection.close()

    def forget(self, connection: AppConnection) -> None:
        self._all.discard(connection)
        if connection in self.unused:
            self.unused.remove(connection)

    def close(self) -> None:
        """Cut every connection."""
        for connection in list(self._all):
            connection.close()
        self.unused.clear()
