"""Poll a starting app until it responds."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import quote

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # s
SHARE = 0.05  # of the time waited so far
ONE_TRY = 5.0  # s; timeout of one request, then a new one is sent
POLITE = 0.01  # s; how long the rest of a response is read, so that the app does not get a broken pipe
HEAD = 64 << 10  # bytes of a response in which its status must be found

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_PATH_SAFE = "!#$%&'()*+,/:;=?@[]~"


class NotYet(Exception):
    """The app does not respond yet, or not in HTTP/1."""


def pause(waited: float) -> float:
    """Return the seconds until the next try: a share of the time waited so far. An app that takes 100 ms loses at most
    5 ms to it; doubling up to the same limit would lose half a pause, 25 ms, on average."""
    return min(LONGEST_PAUSE, max(FIRST_PAUSE, SHARE * waited))


async def _trusted() -> None:
    """Accept any listener."""


async def answering(
    port: int, path: str | None, one_try: float = ONE_TRY, admit: Callable[[], Awaitable[None]] = _trusted
) -> None:
    """Wait until 127.0.0.1:``port`` accepts a connection or, if ``path`` is given, responds to a GET of it with a
    status below 500. ``admit`` is called after each connect, before anything is sent: OSError or NotYet from it is a
    failed try, any other error is raised. Has no deadline of its own."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    while True:
        try:
            async with asyncio.timeout(one_try):
                await _ask(port, path, admit)
            return
        except (OSError, TimeoutError, NotYet):
            await asyncio.sleep(pause(clock() - begun))


async def _ask(port: int, path: str | None, admit: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await admit()
        if path is not None:
            await loop.sock_sendall(sock, request(path))
            if await _status(sock) >= 500:
                raise NotYet
            await _drain(sock)


def request(path: str) -> bytes:
    """Return a GET of ``path``. Other characters than those of a path are sent as %XX, which prevents injection."""
    target = quote(path if path.startswith("/") else f"/{path}", safe=_PATH_SAFE)
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: flyatc-readiness\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


async def _status(sock: socket.socket) -> int:
    """Read the status of the final response; interim ones (1xx) are skipped."""
    data = b""
    while len(data) < HEAD and (more := await asyncio.get_running_loop().sock_recv(sock, 4096)):
        data += more
        while (status := status_of(data)) is not None:
            if status >= 200:
                return status
            _, _, data = data.partition(b"\r\n\r\n")
    raise NotYet


def status_of(data: bytes) -> int | None:
    """Return the status of the first head; None if its status line, or an interim head, is still incomplete.
    Raises NotYet if it is not HTTP/1."""
    line, newline, _ = data.partition(b"\n")
    if not newline:
        return None
    match = _STATUS.match(line + newline)
    if match is None:
        raise NotYet
    status = int(match[1])
    return status if status >= 200 or b"\r\n\r\n" in data else None


async def _drain(sock: socket.socket) -> None:
    try:
        async with asyncio.timeout(POLITE):
            while await asyncio.get_running_loop().sock_recv(sock, 65536):
                pass
    except (OSError, TimeoutError):
        pass
