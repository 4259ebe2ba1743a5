"""The command line's side of ``flyatc exec``: see ``execute``. Synchronous.

At a terminal the command gets a pseudo-terminal of its own, as by ssh: it is the controlling terminal of the command's
session, so job control, Ctrl-C and the size of the window work, and the command never gets hold of the person's own
terminal. If this process dies, it hangs up. Otherwise the command gets the descriptors themselves."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import tty
from collections.abc import Iterator, Sequence
from types import FrameType

import msgspec

from flyatc.control.client import Cut, NoDaemon
from flyatc.control.execute import LARGEST, Command, Ended, News, Signal, socket_of
from flyatc.kit.errors import FlyatcError
from flyatc.kit.unix_socket import short_path

STANDARD = (0, 1, 2)
PIECE = 65536
PASSED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)  # to a command without a terminal


class Call:
    """A command that the daemon runs. Closing the connection ends it."""

    def __init__(self, data: str, command: Command, streams: Sequence[int]) -> None:
        """``data``: server.data, absolute. Raises NoDaemon, FlyatcError."""
        path, body = socket_of(data), msgspec.json.encode(command)
        if len(body) > LARGEST:
            raise FlyatcError(f"the command is longer than {LARGEST >> 10} KB: put it into a file")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with short_path(path) as name:
                self.socket.connect(name)
            socket.send_fds(self.socket, [body], list(streams))
        except PermissionError as error:
            raise FlyatcError(f"you may not use {path}: be the user who runs the daemon, or root") from error
        except OSError as error:
            raise NoDaemon(path) from error

    def close(self) -> None:
        self.socket.close()

    def hang_up(self) -> None:
        """Have the command ended, and let ``read`` raise Cut in another thread."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def signal(self, number: int) -> None:
        with contextlib.suppress(OSError):  # the daemon has ended: read() reports it
            self.socket.send(msgspec.json.encode(Signal(number)))

    def read(self) -> News:
        """Wait for news. Raises Cut."""
        try:
            body = self.socket.recv(LARGEST)
        except ConnectionError:
            body = b""
        if not body:
            raise Cut
        try:
            news: News = msgspec.json.decode(body, type=News)
        except msgspec.DecodeError as error:
            raise FlyatcError("the daemon's message cannot be read: it is of another version. Restart it.") from error
        return news

    def end(self) -> Ended:
        """Wait for the end. Raises Cut."""
        while not isinstance(news := self.read(), Ended):
            pass
        return news


def run(data: str, address: str, words: Sequence[str], *, rehearse: bool = False) -> Ended:
    """Run a command with the streams of this process. Raises NoDaemon, Cut, FlyatcError."""
    terminal = os.isatty(0) and os.isatty(1)
    shown = {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}
    command = Command(
        address=address, words=list(words), env=shown if terminal else {}, terminal=terminal, rehearse=rehearse
    )
    return _at_terminal(data, command) if terminal else _directly(data, command)


def _directly(data: str, command: Command) -> Ended:
    with contextlib.closing(Call(data, command, STANDARD)) as call:

        def passed(number: int, frame: FrameType | None) -> None:
            call.signal(number)

        with _handling(dict.fromkeys(PASSED, passed)):
            return call.end()


def _at_terminal(data: str, command: Command) -> Ended:
    ours, theirs = os.openpty()
    try:
        _copy_size(ours)
        with contextlib.closing(Call(data, command, [theirs if os.isatty(one) else one for one in STANDARD])) as call:
            os.close(theirs)
            theirs = -1
            before = termios.tcgetattr(0)

            def resized(number: int, frame: FrameType | None) -> None:
                _copy_size(ours)

            with _handling({signal.SIGWINCH: resized, signal.SIGTERM: _leave, signal.SIGHUP: _leave}):
                try:
                    tty.setraw(0)
                    return _relay(call, ours)
                finally:
                    termios.tcsetattr(0, termios.TCSAFLUSH, before)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # the terminal is restored on the way


def _relay(call: Call, ours: int) -> Ended:
    """Copy between the person's terminal and the command's until the end; then what is left of the output. Neither
    direction waits for the other."""
    os.set_blocking(ours, False)
    sources, typed = {0, ours, call.socket.fileno()}, b""
    while True:
        ready, writable, _ = select.select(sources - ({0} if typed else set()), [ours] if typed else [], [])
        if 0 in ready and not (typed := _read(0)):
            sources.discard(0)
        if writable:
            with contextlib.suppress(OSError):  # it is full, or the command has ended
                typed = typed[os.write(ours, typed) :]
        if ours in ready and not _show(_read(ours)):
            sources.discard(ours)
        if call.socket.fileno() in ready and isinstance(news := call.read(), Ended):
            while _show(_read(ours)):
                pass
            return news


def _read(source: int) -> bytes:
    """Return what is there; nothing at the end of the stream."""
    try:
        return os.read(source, PIECE)
    except OSError:  # EIO: no process has the terminal open any more
        return b""


def _show(data: bytes) -> bool:
    """Write to stdout. Return whether there was anything."""
    rest = data
    while rest:
        rest = rest[os.write(1, rest) :]
    return bool(data)


def _copy_size(target: int) -> None:
    """Give the terminal ``target`` the size of ours."""
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)


@contextlib.contextmanager
def _handling(handlers: "dict[signal.Signals, object]") -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
