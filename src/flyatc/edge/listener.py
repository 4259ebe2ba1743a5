"""The visitors' door: a socket, its connections, and their graceful end."""

import asyncio
import contextlib
import errno
import socket
from functools import partial

from flyatc.config.schema import Limits
from flyatc.config.schema_sections import Listen
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.wire import connection, server

BACKLOG = 4096


class Listener:
    """Bound when made, so that a busy port is told before anything else is begun."""

    def __init__(self, where: Listen, named: str = "PORT or server.listen") -> None:
        """Raises FlyatcError when the address cannot be had. ``named``: the settings that say where."""
        self._socket, self.where = bind(where, named), where
        self._server: asyncio.Server | None = None
        self._wire: server.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def open(self, wire: server.Server) -> None:
        loop = asyncio.get_running_loop()
        self._wire = wire
        self._server = await loop.create_server(
            partial(connection.Connection, wire), sock=self._socket, backlog=BACKLOG
        )
        self._sweeper = tasks.start(_sweep(wire), "limits of connections")

    def use(self, limits: Limits) -> None:
        if self._wire is not None:
            self._wire.limits = limits

    def shut(self) -> None:
        """No new connections, no new requests; those in flight go on."""
        if self._server is not None:
            self._server.close()
        if self._wire is not None:
            self._wire.close_idle()

    async def close(self, patience: float) -> None:
        """Waits for what is in flight, ``patience`` seconds at most, then cuts it."""
        assert self._wire is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._wire.emptied()
        self._wire.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()


async def _sweep(wire: server.Server) -> None:
    while True:
        limits = wire.limits
        every = (limits.header_timeout, limits.body_timeout, limits.idle_timeout, limits.write_timeout)
        shortest = min((t for t in every if t), default=4.0)
        await asyncio.sleep(min(1.0, shortest / 4))
        wire.sweep()


def _enable_keepalive(one: socket.socket) -> None:
    """Connections inherit it: a visitor whose network vanished must not keep an app awake by an open WebSocket."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def bind(where: Listen, named: str) -> socket.socket:
    """A listening-to-be TCP socket. Without a host: all interfaces, IPv6 and IPv4 in one where the machine has both."""
    hosts = [where.host] if where.host is not None else ["::", "0.0.0.0"]  # noqa: S104 - visitors come from outside
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _enable_keepalive(one)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if where.host is None else 1)
            one.bind((host, where.port))
        except OSError as error:
            one.close()
            if host == hosts[-1] or error.errno == errno.EADDRINUSE:
                raise FlyatcError(f"cannot listen on {where}: {error.strerror}. Is it in use? Set {named}.") from error
            continue
        one.setblocking(False)
        return one
    raise FlyatcError(f"cannot listen on {where}: this machine has no such network")
