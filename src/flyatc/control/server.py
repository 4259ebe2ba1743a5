"""The operators' doors: a unix socket with everything, and on TCP, where it is asked for, what monitoring reads."""

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from flyatc.config.schema import Limits, Listen
from flyatc.control import place
from flyatc.control.api import Api
from flyatc.control.call import Exchange
from flyatc.control.ports import Operations
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.wire import answer, server
from flyatc.wire.faults import BadMessage

LARGEST_BODY = 1 << 20
BACKLOG = 64
SWEEP_SECONDS = 1.0


class Server:
    """``data``: server.data; ``listen``: server.control."""

    def __init__(self, operations: Operations, log: Log, data: Path, listen: Listen | None) -> None:
        self._admin = Door(Api(operations, log, admin=True), Limits(request_body=LARGEST_BODY, write_timeout=0.0))
        self._public = Door(Api(operations, log, admin=False), Limits(request_body=LARGEST_BODY))
        self._path, self._listen = place.socket_of(data), listen
        self._inode = 0
        self._port: int | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int | None:
        """Of the TCP door, once it is open."""
        return self._port

    async def open(self) -> None:
        """Raises FlyatcError when a daemon already serves this folder, or an address cannot be had."""
        try:
            one = claim(self._path)
        except OSError as error:
            raise FlyatcError(f"cannot make the control socket {self._path}: {error.strerror}") from error
        self._inode = self._path.stat().st_ino
        await self._admin.open(one)
        if self._listen is not None:
            tcp = bind(self._listen)
            self._port = int(tcp.getsockname()[1])
            await self._public.open(tcp)
        self._sweeper = tasks.start(self._sweep(), "limits of control connections")

    async def close(self) -> None:
        """Cuts what is under way, and takes the socket away."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        await self._admin.close()
        await self._public.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._admin.wire.sweep()
            self._public.wire.sweep()


class Door:
    """One listening socket, and the calls that came through it."""

    def __init__(self, api: Api, limits: Limits) -> None:
        self._api = api
        self._calls: set[Exchange] = set()
        self._server: asyncio.Server | None = None
        self.wire = server.Server(self._handle, self._refuse, limits)

    async def open(self, one: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        make = loop.create_unix_server if one.family == socket.AF_UNIX else loop.create_server
        self._server = await make(self.wire.connection, sock=one, backlog=BACKLOG)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.wire.close_idle()
        for exchange in list(self._calls):
            await exchange.cut()
        self.wire.abort()

    def _handle(self, request: server.Request) -> None:
        exchange = Exchange(request, self._api, self._calls.discard)
        self._calls.add(exchange)
        exchange.begin()

    def _refuse(self, _: server.Connection, fault: BadMessage) -> bytes:
        told = self._api.refusal(fault)
        return answer.build(
            told.status, [(b"Content-Type", told.kind.encode())], told.body, head_only=False, close=True
        )


def claim(path: Path) -> socket.socket:
    """The socket, listening, for its owner only. One that a dead daemon left is replaced.

    Raises FlyatcError where a live one is, or something that is no socket; OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    with _alone(path.parent), place.short(path) as name:
        _clear(path, name)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(name)
            path.chmod(0o600)  # nobody can connect before it listens
            one.listen(BACKLOG)
        except BaseException:
            one.close()
            raise
    one.setblocking(False)
    return one


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two daemons which start at once must not each take the other's new socket for a dead one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise FlyatcError(f"another flyatc is starting with the same folder: {folder.parent}") from error
    finally:
        os.close(descriptor)


def _clear(path: Path, name: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FlyatcError(f"{path} is in the way: it is no socket. Move it.")
    if _is_live(name):
        raise FlyatcError(f"another flyatc runs with the same folder: {path.parent.parent}. Stop it first.")
    path.unlink()


def _is_live(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # alive, and its backlog is full
            return True
        return True


def bind(where: Listen) -> socket.socket:
    """Raises FlyatcError."""
    host = where.host or "127.0.0.1"
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, where.port))
    except OSError as error:
        one.close()
        raise FlyatcError(f"cannot listen on {where} for server.control: {error.strerror}. Is it in use?") from error
    one.setblocking(False)
    return one
