"""Visits by raw sockets: what exactly goes over the wire, and what exactly comes back."""

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whole.daemon import SLOWNESS, Daemon

PARROT = json.dumps([sys.executable, "-S", str(Path(__file__).parent.parent / "apps" / "parrot.py")])


@contextlib.contextmanager
def serving(folder: Path, config: str, env: dict[str, str] | None = None) -> Iterator[Daemon]:
    """A daemon for a whole module of tests. Its log must not tell of an unexpected error at the end."""
    daemon = Daemon(folder, config, env or {})
    try:
        yield daemon.start()
        daemon.stop()
        assert not daemon.reported("unexpected error"), daemon.reported("unexpected error")
    finally:
        daemon.clean_up()
        print(daemon.log_file.read_text(errors="replace")[-20_000:])


def parrot(*, app: str = "", server: str = "", top: str = "", users: str = "users: {ann: null}") -> str:
    """A tenants.yaml with the parrot for everybody."""
    return f"""
server:
  listen: 127.0.0.1:0
{server}
app:
  command: {PARROT}
  idle: 1h
  stop_grace: 2s
{app}
storage: {{mode: none}}
{users}
{top}
"""


def say(*parts: bytes, more: str = "") -> str:
    """Where the parrot says these bytes."""
    return "/ann/say?" + "&".join(f"hex={part.hex()}" for part in parts) + more


@dataclass
class Reply:
    """One answer as it came. ``body``: without its framing."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True  # false: the connection ended first

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [v for k, v in self.headers if k.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class Line:
    """One connection to the daemon."""

    def __init__(self, daemon: Daemon, timeout: float = 10) -> None:
        self._open(daemon.port, timeout)

    @classmethod
    def to(cls, port: int, timeout: float = 10) -> "Line":
        """To the server that listens there."""
        line = cls.__new__(cls)
        line._open(port, timeout)
        return line

    def _open(self, port: int, timeout: float) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout * SLOWNESS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> "Line":
        self.socket.sendall(data)
        return self

    def get(self, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> Reply:
        return self.send(request(target, *headers, method=method, body=body)).reply(head=method == "HEAD")

    def reply(self, *, head: bool = False) -> Reply:
        """The next answer (1xx are answers too). ``head``: to a HEAD, without a body."""
        reply = self._head()
        if head or reply.status < 200 or reply.status in (204, 304):
            return reply
        if (coding := reply.one("transfer-encoding")) is not None:
            assert coding == "chunked"
            assert reply.one("content-length") is None
            self._chunks(reply)
        elif (length := reply.one("content-length")) is not None:
            reply.body = self.take(int(length))
            reply.complete = len(reply.body) == int(length)
        else:
            reply.body = self.rest()
        return reply

    def _head(self) -> Reply:
        line, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = (one.partition(":") for one in lines)
        return Reply(line, [(k, v.strip()) for k, _, v in pairs])

    def _chunks(self, reply: Reply) -> None:
        try:
            while size := int(self.until(b"\r\n"), 16):
                reply.body += self.take(size)
                assert self.until(b"\r\n") == b""
            while line := self.until(b"\r\n").decode():
                name, _, value = line.partition(":")
                reply.trailers.append((name, value.strip()))
        except EOFError:
            reply.complete = False

    def until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            if not self._more():
                raise EOFError(self._held)
        found, _, self._held = self._held.partition(mark)
        return found

    def take(self, count: int) -> bytes:
        while len(self._held) < count and self._more():
            pass
        found, self._held = self._held[:count], self._held[count:]
        return found

    def rest(self) -> bytes:
        """All until the connection ends."""
        while self._more():
            pass
        found, self._held = self._held, b""
        return found

    def ended(self) -> bool:
        """Waits for the end of the connection; whether nothing more came before it."""
        return self.rest() == b""

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._held += data
        return bool(data)


def request(target: str, *headers: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: here.example", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def ask(daemon: Daemon, data: bytes, timeout: float = 10) -> Reply:
    """One request of these bytes on a connection of its own, and its first answer."""
    with Line(daemon, timeout) as line:
        return line.send(data).reply(head=data.startswith(b"HEAD "))


def get(daemon: Daemon, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> Reply:
    with Line(daemon) as line:
        return line.get(target, *headers, method=method, body=body)


def seen(reply: Reply) -> Reply:
    """The request that the app (the parrot's /seen) was sent, in the form of a reply."""
    assert reply.status == 200, reply
    line, *lines = reply.json["head"].split("\r\n")
    pairs = (one.partition(":") for one in lines)
    return Reply(line, [(k, v.strip()) for k, _, v in pairs], reply.json["body"].encode("latin-1"))
