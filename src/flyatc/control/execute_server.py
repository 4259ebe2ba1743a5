"""The daemon's side of ``flyatc exec``: see ``execute``."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Container, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from flyatc.control import refuse_apps
from flyatc.control.execute import DESCRIPTORS, LARGEST, Begun, Command, Ended, News, Signal, socket_of
from flyatc.kit import tasks, unix_socket
from flyatc.kit.errors import FlyatcError
from flyatc.kit.streams import Streams
from flyatc.observe.log import Log

BACKLOG = 64
PATIENCE = 10.0  # s; for the first message, and for the last one to be taken
PAUSE = 1.0  # s; without a free descriptor
SIGNALS = frozenset({1, 2, 3, 10, 12, 15, 18, 20, 28})  # HUP INT QUIT USR1 USR2 TERM CONT TSTP WINCH

Execute = Callable[[Command, Streams, "asyncio.Queue[int]", Callable[[], None]], Coroutine[Any, Any, Ended]]


class ExecuteListener:
    """``execute``: runs a command; gets its streams, the signals for it, and what to call when it runs. Raises
    FlyatcError. ``ancestors``: see control.listeners.Listeners."""

    def __init__(self, execute: Execute, data: Path, log: Log, ancestors: Callable[[], Container[int]]) -> None:
        self._execute, self._path, self._log, self._ancestors = execute, socket_of(data), log, ancestors
        self._socket: socket.socket | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Make the socket, or make it again. The caller holds the lock of the data folder. Raises FlyatcError."""
        self._shut()
        try:
            self._path.unlink(missing_ok=True)
            with unix_socket.short_path(self._path) as name:
                one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                one.bind(name)
                self._path.chmod(0o600)  # no client can connect before it listens
                one.listen(BACKLOG)
        except OSError as error:
            raise FlyatcError(f"cannot make the socket {self._path}: {error.strerror}") from error
        one.setblocking(False)
        self._socket = one
        self._listen()

    async def close(self) -> None:
        """End all commands, and remove the socket."""
        if self._shut():
            self._path.unlink(missing_ok=True)
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    def _listen(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _shut(self) -> bool:
        """Close the listening socket. Return whether there was one."""
        if self._socket is None:
            return False
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        return True

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no descriptor is free
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.call_later(PAUSE, self._listen)
            return
        connection.setblocking(False)
        call = tasks.start(self._serve(_Client(connection)), "flyatc exec")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(self, client: "_Client") -> None:
        streams: Streams | None = None
        try:
            command, streams = await self._first(client)
            ended = await self._run(client, command, streams)
        except FlyatcError as error:
            client.send(Ended(error=str(error)))
        except Exception as error:  # every error is reported to the operator
            self._log.event("error", "flyatc exec failed: a bug in flyatc", error=repr(error))
            client.send(Ended(error=f"a bug in flyatc: {type(error).__name__}; the daemon's log says more"))
        except asyncio.CancelledError:
            client.send(Ended(error="the daemon is going away: the command was ended"))
            raise
        else:
            client.send(ended)
        finally:
            if streams is not None:
                streams.close()
            client.close()

    async def _first(self, client: "_Client") -> tuple[Command, Streams]:
        if refuse_apps.has_app_as_peer(client.connection, self._ancestors()):
            raise FlyatcError("the processes of an app may not command the daemon")
        try:
            async with asyncio.timeout(PATIENCE):
                body, files = await client.receive()
        except TimeoutError:
            raise FlyatcError("no command came") from None
        try:
            command = msgspec.json.decode(body, type=Command)
            if len(files) != DESCRIPTORS:
                raise FlyatcError(f"{len(files)} descriptors came, not {DESCRIPTORS}")
        except (msgspec.DecodeError, UnicodeDecodeError, FlyatcError) as error:
            for file in files:
                os.close(file)
            raise FlyatcError(f"the command cannot be read: is flyatc of another version? {error}") from error
        return command, Streams(*files, terminal=command.terminal)

    async def _run(self, client: "_Client", command: Command, streams: Streams) -> Ended:
        signals: asyncio.Queue[int] = asyncio.Queue(16)
        work = tasks.start(self._execute(command, streams, signals, lambda: client.send(Begun())), "command")
        listen = tasks.start(_pass_signals(client, signals), "signals for a command")
        try:
            await asyncio.wait([work, listen], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, listen):
                task.cancel()
            await tasks.to_the_end(tasks.start(_over(work, listen), "end of a command"))
        return work.result() if not work.cancelled() else Ended(error="the client has left")


async def _over(*ends: asyncio.Task[Any]) -> None:
    await asyncio.wait(ends)


async def _pass_signals(client: "_Client", signals: "asyncio.Queue[int]") -> None:
    """Pass the signals on until the client leaves."""
    while True:
        body, files = await client.receive()
        for file in files:
            os.close(file)
        if not body:
            return
        try:
            number = msgspec.json.decode(body, type=Signal).signal
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if number in SIGNALS and not signals.full():
            signals.put_nowait(number)


class _Client:
    """A connection. All descriptors that come are closed with exec (MSG_CMSG_CLOEXEC)."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(connection, self._readable.set)

    async def receive(self) -> tuple[bytes, list[int]]:
        """Return a message and its descriptors; an empty one: the client has left."""
        while True:
            try:
                return self._receive()
            except BlockingIOError:
                self._readable.clear()
                await self._readable.wait()
            except OSError:
                return b"", []

    def _receive(self) -> tuple[bytes, list[int]]:
        space = socket.CMSG_LEN(DESCRIPTORS * 4)
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        body, ancillary, cut, _ = self.connection.recvmsg(LARGEST, space, flags)
        files = [file for _, _, packed in ancillary for file in struct.unpack(f"{len(packed) // 4}i", packed)]
        return (b"" if cut & (socket.MSG_TRUNC | socket.MSG_CTRUNC) else body), files

    def send(self, news: News) -> None:
        """Send a message, unless the client has left or does not read."""
        try:
            self.connection.send(msgspec.json.encode(news), socket.MSG_DONTWAIT)
        except OSError:
            return

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.connection)
        self.connection.close()
