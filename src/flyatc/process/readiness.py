"""Asks a starting app until it answers."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import quote

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # s
SHARE = 0.05  # of the time waited so far
ONE_TRY = 5.0  # s; an app that has taken a question and is silent is asked anew
POLITE = 0.01  # s; how long the rest of an answer is taken, so that the app does not see a broken pipe
HEAD = 64 << 10  # octets of an answer in which its status must be found

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_PATH_SAFE = "!#$%&'()*+,/:;=?@[]~"


class NotYet(Exception):
    """Nobody answers, or nobody that speaks HTTP."""


def pause(waited: float) -> float:
    """Seconds until the next try: a share of what was waited already. An app that takes 100 ms loses at most 5 to it;
    doubling up to the same limit would lose half a pause, 25 ms, on the average start."""
    return min(LONGEST_PAUSE, max(FIRST_PAUSE, SHARE * waited))


async def _trusted() -> None:
    """Accepts whoever listens."""


async def answering(
    port: int, path: str | None, one_try: float = ONE_TRY, admit: Callable[[], Awaitable[None]] = _trusted
) -> None:
    """Returns once 127.0.0.1:``port`` takes a connection or, where a ``path`` is given, answers a GET of it with a
    status below 500. ``admit`` is called with each connection before anything is sent: OSError or NotYet from it is a
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
            await _hear_out(sock)


def request(path: str) -> bytes:
    """A GET of ``path``; whatever is no path character goes as %XX, so that nothing can be added to the head."""
    target = quote(path if path.startswith("/") else f"/{path}", safe=_PATH_SAFE)
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: flyatc-readiness\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


async def _status(sock: socket.socket) -> int:
    """Of the final answer; interim ones (1xx) are passed over."""
    data = b""
    while len(data) < HEAD and (more := await asyncio.get_running_loop().sock_recv(sock, 4096)):
        data += more
        while (status := status_of(data)) is not None:
            if status >= 200:
                return status
            _, _, data = data.partition(b"\r\n\r\n")
    raise NotYet


def status_of(data: bytes) -> int | None:
    """The status that a head begins with; None while it cannot be told, or is an interim one not yet complete.
    Raises NotYet for what is not HTTP/1."""
    line, newline, _ = data.partition(b"\n")
    if not newline:
        return None
    match = _STATUS.match(line + newline)
    if match is None:
        raise NotYet
    status = int(match[1])
    return status if status >= 200 or b"\r\n\r\n" in data else None


async def _hear_out(sock: socket.socket) -> None:
    try:
        async with asyncio.timeout(POLITE):
            while await asyncio.get_running_loop().sock_recv(sock, 65536):
                pass
    except (OSError, TimeoutError):
        pass
