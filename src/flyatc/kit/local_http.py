"""HTTP/1 requests to servers on this machine, one on each connection: bounded heads and bodies.

Deadlines are the caller's (``asyncio.timeout``)."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from flyatc.kit.unix_socket import short_path

LARGEST_HEAD = 64 << 10  # bytes
PIECE = 64 << 10  # bytes read at once

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


class InvalidResponse(ValueError):
    """The response is not HTTP/1, is cut off, or has too large a head."""


@contextlib.asynccontextmanager
async def connected(address: Path | int) -> AsyncIterator["Connection"]:
    """Connect to a unix socket, whose path may have any length, or to a port on 127.0.0.1. Raises OSError."""
    loop, family = asyncio.get_running_loop(), socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        if isinstance(address, Path):
            with short_path(address) as name:
                await loop.sock_connect(sock, name)
        else:
            await _connect(sock, ("127.0.0.1", address))
        yield Connection(sock)


async def _connect(sock: socket.socket, address: tuple[str, int]) -> None:
    """Like ``loop.sock_connect``, with which uvloop has a thread look up even an address of digits."""
    with contextlib.suppress(BlockingIOError):
        return sock.connect(address)
    loop, writable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(sock, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(sock)
    if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))


class Connection:
    """A connection for one request: ``send``, ``status``, ``body``, in this order. Raises OSError, InvalidResponse."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._data = sock, bytearray()

    async def send(self, request: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, request)

    async def status(self) -> int:
        """Return the status of the final response, as soon as its first line is there; skip interim ones (1xx)."""
        while True:
            status = status_of(self._data)
            if status is None:
                await self._read_head()
            elif status >= 200:
                return status
            else:
                del self._data[: self._data.index(_END) + len(_END)]

    async def head(self) -> bytes:
        """Return the head of the final response; call it after ``status``."""
        while (end := self._data.find(_END)) < 0:
            await self._read_head()
        return bytes(self._data[: end + len(_END)])

    async def body(self, most: int) -> bytes:
        """Return the first ``most`` bytes of the body, which ends as its Content-Length says, else with the
        connection."""
        head = await self.head()
        length = _LENGTH.search(head)
        wanted = most if length is None else min(most, int(length[1]))
        while len(self._data) < len(head) + wanted and await self._read():
            pass
        found = bytes(self._data[len(head) : len(head) + wanted])
        if length is not None and len(found) < wanted:
            raise InvalidResponse("the response is cut off")
        return found

    async def drain(self) -> None:
        """Read and drop all until the server closes the connection."""
        while await self._read():
            self._data.clear()

    async def _read_head(self) -> None:
        if len(self._data) > LARGEST_HEAD or not await self._read():
            raise InvalidResponse("the response has no complete head")

    async def _read(self) -> bool:
        """Read more; return whether there was more."""
        piece = await asyncio.get_running_loop().sock_recv(self._sock, PIECE)
        self._data += piece
        return bool(piece)


def status_of(data: bytes | bytearray) -> int | None:
    """Return the status of the first head; None if its status line, or an interim head, is still incomplete.
    Raises InvalidResponse if it is not HTTP/1."""
    line, newline, _ = data.partition(b"\n")
    if not newline:
        return None
    match = _STATUS.match(line + newline)
    if match is None:
        raise InvalidResponse("the response is not HTTP/1")
    status = int(match[1])
    return status if status >= 200 or _END in data else None
