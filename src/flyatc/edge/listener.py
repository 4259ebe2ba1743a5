"""The listening socket, its connections, and their graceful shutdown."""

import asyncio
import contextlib
import errno
import socket
from functools import partial

from flyatc.config.schema import Limits
from flyatc.config.schema_sections import Listen
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, cannot_listen
from flyatc.wire import connection, descriptors, server

BACKLOG = 4096


class Listener:
    """A listening socket for clients. Bound when made, so that a busy port is reported before anything else starts."""

    def __init__(self, where: Listen, named: str = "PORT or server.listen") -> None:
        """Raises FlyatcError if the address cannot be bound. ``named``: the settings that choose it."""
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
            partial(connection.Connection, wire), sock=self._socket, backlog=_backlog()
        )
        self._sweeper = tasks.start(_sweep(wire), "limits of connections")

    def use(self, limits: Limits) -> None:
        if self._wire is not None:
            self._wire.limits = limits

    def shut(self) -> None:
        """Accept no new connections and no new requests; those in flight continue."""
        if self._server is not None:
            self._server.close()
        if self._wire is not None:
            self._wire.close_idle()

    async def close(self, patience: float) -> None:
        """Wait up to ``patience`` seconds for requests in flight, then cut them."""
        assert self._wire is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._wire.wait_empty()
        self._wire.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()


def _backlog() -> int:
    """Return how many connections may wait to be accepted: all are accepted at once, before one can be refused."""
    bounds = descriptors.bounds()
    return min(BACKLOG, bounds.full - bounds.crowded)


async def _sweep(wire: server.Server) -> None:
    while True:
        limits = wire.limits
        every = (limits.header_timeout, limits.body_timeout, limits.idle_timeout, limits.write_timeout)
        shortest = min((t for t in every if t), default=4.0)
        await asyncio.sleep(min(1.0, shortest / 4))
        wire.sweep()


def _enable_keepalive(one: socket.socket) -> None:
    """Enable TCP keepalive, which accepted connections inherit: a client whose network vanished must not keep an app
    running by an open WebSocket."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def bind(where: Listen, named: str) -> socket.socket:
    """Return a bound TCP socket, not listening yet. Without a host: all interfaces, IPv6 and IPv4 in one socket if the
    machine has both. Raises FlyatcError."""
    hosts = [where.host] if where.host is not None else ["::", "0.0.0.0"]  # noqa: S104 - clients connect from outside
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
                raise FlyatcError(cannot_listen(str(where), error, f", or set {named}")) from error
            continue
        one.setblocking(False)
        return one
    raise FlyatcError(f"cannot listen on {where}: this machine has no such network")
