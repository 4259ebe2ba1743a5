"""Client of the control socket, for commands. Synchronous."""

import contextlib
import http.client
import socket
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, TypeVar
from urllib.parse import urlencode

import msgspec

from flyatc.control.types import socket_of
from flyatc.kit.errors import FlyatcError
from flyatc.kit.unix_socket import short_path

T = TypeVar("T")
READ_BYTES = 65536
PATIENCE = 120.0  # s without data for GET, since the store's versions may be slow to list; POST has no limit


class NoDaemon(FlyatcError):
    """No daemon listens."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"no daemon is running with this configuration (no response at {self.path}): start it with flyatc serve"


class Refused(FlyatcError):
    """The daemon's error message; ``status`` as in HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cut(FlyatcError):
    """The daemon ended in the midst of a response."""

    def __str__(self) -> str:
        return "the daemon ended in the midst of its response"


class Silent(FlyatcError):
    """The daemon runs, and does not respond."""


class Failure(msgspec.Struct, frozen=True):
    error: str = "the daemon refuses, without a reason"


class Client:
    """``data``: server.data, absolute. Each call raises NoDaemon, Refused, Silent or Cut."""

    def __init__(self, data: str) -> None:
        self.data = data
        self._path = socket_of(data)

    def get(self, path: str, kind: type[T], /, **query: str | None) -> T:
        """The response, decoded as ``kind``."""
        with self._ask("GET", path, query, None, PATIENCE) as response:
            return _decode(response.read(), kind)

    def get_file(self, path: str, target: BinaryIO, /, **query: str | None) -> int:
        """Write the body of the response to ``target``; return its bytes. Raises Cut if it is not whole."""
        with self._ask("GET", path, query, None) as response:
            expected, found = response.length, 0
            while data := response.read(READ_BYTES):
                found += target.write(data)
            if found != expected:
                raise Cut
            return found

    def post(self, path: str, kind: type[T], /, **body: str | bool | float | None) -> T:
        with self._ask("POST", path, {}, body) as response:
            return _decode(response.read(), kind)

    def read_events(self, path: str, /, **query: str | None) -> Generator[bytes]:
        """The data of server-sent events as they arrive. The daemon cuts a client that does not read for a while, as
        behind a pager: then the stream goes on after the last event."""
        last = ""
        while True:
            before, headers = last, {"Last-Event-ID": last} if last else {}
            try:
                with self._ask("GET", path, query, None, headers=headers) as response:
                    for number, data in _events(response):
                        last = number
                        yield data
                return
            except NoDaemon as error:
                if not last:
                    raise
                raise Cut from error
            except Cut:
                if last == before:
                    raise

    def post_lines(self, path: str, /, **body: str | float | None) -> Generator[bytes]:
        with self._ask("POST", path, {}, body) as response:
            yield from _lines(response)

    @contextlib.contextmanager
    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | None],
        body: Mapping[str, str | bool | float | None] | None,
        patience: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[http.client.HTTPResponse]:
        asked = {name: value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(asked)}" if asked else path
        connection = _Connection(self._path, patience)
        try:
            connection.request(method, target, None if body is None else msgspec.json.encode(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(response.status, _decode(response.read(), Failure).error)
            yield response
        except TimeoutError as error:
            raise Silent(
                f"the daemon does not answer within {patience:.0f} s: is it stopped, or far too busy?"
            ) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise Cut from error
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience: float | None) -> None:
        super().__init__("flyatc")
        self._path, self._patience = path, patience

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_path(self._path) as name:
                self.sock.connect(name)
            self.sock.settimeout(self._patience)
        except PermissionError as error:
            raise FlyatcError(f"you may not use {self._path}: be the user who runs the daemon, or root") from error
        except OSError as error:
            raise NoDaemon(self._path) from error


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Lines of a response. Raises Refused for an error in the last line."""
    for line in _split(response, b"\n"):
        if line.startswith(b'{"error":'):
            raise Refused(500, _decode(line, Failure).error)
        yield line


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, bytes]]:
    """Id and data of each event, as ``control.application`` writes them. Raises Refused for an event ``error``."""
    for event in _split(response, b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
        if fields.get(b"event") == b"error":
            raise Refused(500, _decode(fields[b"data"], Failure).error)
        if b"data" in fields:
            yield fields.get(b"id", b"").decode(), fields[b"data"]


def _split(response: http.client.HTTPResponse, end: bytes) -> Iterator[bytes]:
    rest = b""
    while data := response.read1(READ_BYTES):  # readline takes a truncated response for a complete one
        *parts, rest = (rest + data).split(end)
        yield from parts


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise FlyatcError("the daemon's response cannot be read: it is of another version. Restart it.") from error
