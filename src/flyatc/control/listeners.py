"""Listening sockets of the control API: a unix socket in the data folder with everything, a TCP port for metrics and
health. Both are bound at the start; aiohttp serves them from the first connection on."""

import asyncio
import socket
import stat
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING

from flyatc.config.schema_sections import Listen
from flyatc.control.types import Operations, socket_of
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError, cannot_listen
from flyatc.kit.unix_socket import short_path
from flyatc.observe.log import Log

if TYPE_CHECKING:
    from flyatc.control.http_server import HttpServer

BACKLOG = 64
SWEEP_SECONDS = 1.0


class Listeners:
    """Both listeners. ``data``: server.data; ``listen``: server.control; ``ancestors``: returns the pids whose
    descendants are processes of apps, which may not use the unix socket."""

    def __init__(
        self,
        operations: Operations,
        log: Log,
        data: Path,
        listen: Listen | None,
        ancestors: Callable[[], Container[int]] = tuple,
    ) -> None:
        def admin() -> "HttpServer":
            from flyatc.control import api, application

            return application.server(api.ROUTES, operations, log, ancestors)

        def monitoring() -> "HttpServer":
            from flyatc.control import api, application

            return application.server([one for one in api.ROUTES if one.public], operations, log)

        self._admin, self._public = _Listener(admin, log), _Listener(monitoring, log)
        self._log, self._path, self._listen = log, socket_of(data), listen
        self._inode = 0
        self._port: int | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int | None:
        """Port of the TCP listener, once it is open."""
        return self._port

    async def open(self) -> None:
        """Raises FlyatcError if a daemon already serves this folder, or an address is not available."""
        await self._open_unix()
        try:
            await self._open_tcp()
        except FlyatcError:
            await self.close()
            raise
        self._sweeper = tasks.start(self._sweep(), "limits of control connections")

    async def _open_unix(self) -> None:
        try:
            one = claim(self._path)
            self._inode = self._path.stat().st_ino
        except OSError as error:
            raise FlyatcError(f"cannot make the control socket {self._path}: {error.strerror}") from error
        await self._admin.open(one)

    async def _open_tcp(self) -> None:
        if self._listen is not None:
            one = bind(self._listen)
            self._port = int(one.getsockname()[1])
            await self._public.open(one)
            host = f"[{one.getsockname()[0]}]" if one.family == socket.AF_INET6 else one.getsockname()[0]
            self._log.event("info", "metrics are served", on=f"http://{host}:{self._port}/metrics")

    async def close(self) -> None:
        """Abort calls under way, and remove the socket."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._is_there():
            self._path.unlink()
        await self._admin.close()
        await self._public.close()

    def _is_there(self) -> bool:
        try:
            return self._path.lstat().st_ino == self._inode
        except OSError:
            return False

    async def _sweep(self) -> None:
        lost = False
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._admin.sweep()
            self._public.sweep()
            if not lost and not self._is_there():
                lost = not await self._reopen_unix()

    async def _reopen_unix(self) -> bool:
        """Make the socket again after it was deleted, as with the whole data folder."""
        try:
            await self._open_unix()
        except FlyatcError as error:
            self._log.event("error", "the control socket is gone, commands cannot reach the daemon", reason=str(error))
            return False
        self._log.event("warning", "the control socket was gone: made again", path=str(self._path))
        return True


class _Listener:
    """One listening socket at a time. ``make`` makes its server, in a thread, at the first connection: the import
    of aiohttp must delay neither the start nor the first requests, and many daemons never need it."""

    def __init__(self, make: Callable[[], "HttpServer"], log: Log) -> None:
        self._make, self._log = make, log
        self._http: HttpServer | None = None
        self._socket: socket.socket | None = None  # not served yet
        self._server: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, one: socket.socket) -> None:
        if self._serving is not None:
            await self._serving
        self._stop_listening()
        self._socket = one
        if self._http is None:
            asyncio.get_running_loop().add_reader(one, self._connected)
        else:
            await self._serve(self._http)

    def sweep(self) -> None:
        if self._http is not None:
            self._http.sweep()

    async def close(self) -> None:
        if self._serving is not None:
            await self._serving
        self._stop_listening()
        if self._http is not None:
            await self._http.close()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _connected(self) -> None:
        """A first client has connected."""
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket)
        self._serving = tasks.start(self._begin(), "start of the control API")

    async def _begin(self) -> None:
        try:
            http = await asyncio.to_thread(self._make)
            await http.open()
        except Exception as error:  # such as a library that cannot be imported
            self._stop_listening()
            return self._log.event("error", "the control API cannot be served: commands fail", reason=repr(error))
        self._http = http
        return await self._serve(http)

    async def _serve(self, http: "HttpServer") -> None:
        one, self._socket = self._socket, None
        assert one is not None
        loop = asyncio.get_running_loop()
        make = loop.create_unix_server if one.family == socket.AF_UNIX else loop.create_server
        self._server = await make(http.connect, sock=one, backlog=BACKLOG)


def claim(path: Path) -> socket.socket:
    """Bind and listen on a unix socket for its owner only. One left by a dead daemon is replaced: the caller holds the
    folder's lock, so this happens once at a time.

    Raises FlyatcError if a live daemon listens there or the path is no socket; OSError."""
    durable_files.make_folder(path.parent)
    path.parent.chmod(0o700)
    with short_path(path) as name:
        _clear(path, name)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(name)
            path.chmod(0o600)  # no client can connect before it listens
            one.listen(BACKLOG)
        except BaseException:
            one.close()
            raise
    one.setblocking(False)
    return one


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
    """Listen on the TCP port of server.control. Raises FlyatcError."""
    host = where.host or "127.0.0.1"
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, where.port))
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise FlyatcError(cannot_listen(f"{where} for server.control", error)) from error
    one.setblocking(False)
    return one
