"""The edge's side of the dashboard: a gateway to an aiohttp application in this process, over pairs of sockets.

The application is imported and made at the first request: a daemon whose dashboard is never opened does not pay for it.
There is no port and no socket file that an app could connect to.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from flyatc.edge import upstream
from flyatc.kit import tasks
from flyatc.wire import upstream_pool
from flyatc.wire.upstream_connection import AppConnection

if TYPE_CHECKING:
    from flyatc.control.http_server import HttpServer
    from flyatc.dashboard.site import Site

NAME = "the dashboard"
SWEEP_SECONDS = 1.0


class Gateway(upstream.Gateway):
    """Connections to the dashboard. ``make``: makes its Site, in a thread; set before the first request."""

    __slots__ = ("_starting", "_sweeper", "make")

    def __init__(self) -> None:
        super().__init__(NAME, 0, named=NAME)
        self.pool = _Pool(self._served)
        self.make: Callable[[], Site] | None = None
        self._starting: asyncio.Task[HttpServer] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def dial(self) -> AppConnection:
        """Open a connection, and start the application if there is none. Raises OSError."""
        return await self.pool.dial()

    async def _served(self) -> "HttpServer":
        if self._starting is None:
            self._starting = tasks.start(self._start(), "start of the dashboard")
        try:
            return await tasks.joined(self._starting)
        except Exception as error:  # such as a library that cannot be imported: the next request tries again
            self._starting = None
            raise OSError(f"it cannot be started: {error!r}") from error

    async def _start(self) -> "HttpServer":
        server = await asyncio.to_thread(self._build)
        await server.open()
        self._sweeper = tasks.start(self._sweep(server), "limits of dashboard connections")
        return server

    def _build(self) -> "HttpServer":
        from flyatc.control.http_server import HttpServer
        from flyatc.dashboard import application

        assert self.make is not None
        return HttpServer(application.build(self.make()))

    async def _sweep(self, server: "HttpServer") -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            server.sweep()

    async def end(self) -> None:
        """Close all connections, and the application."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.close()
        if self._starting is not None and self._starting.done() and self._starting.exception() is None:
            await self._starting.result().close()


class _Pool(upstream_pool.Pool):
    """Connections made of pairs of sockets. ``served``: returns the server that gets the other ends."""

    def __init__(self, served: "Callable[[], Awaitable[HttpServer]]") -> None:
        super().__init__(NAME, 0, replays=True, named=NAME)  # its responses may send a request to another machine
        self._served = served

    async def dial(self) -> AppConnection:
        server, loop = await self._served(), asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            for end in (ours, theirs):
                end.setblocking(False)
            await loop.connect_accepted_socket(server.connect, theirs)
            _, connection = await loop.create_unix_connection(lambda: AppConnection(self), sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        self._all.add(connection)
        return connection
