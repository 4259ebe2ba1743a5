"""Poll a starting app until it responds."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from flyatc.kit import local_http
from flyatc.process.listening_sockets import Listener

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05  # s
SHARE = 0.05  # of the time waited so far
ONE_TRY = 5.0  # s; timeout of one request, then a new one is sent
POLITE = 0.01  # s; how long the rest of a response is read, so that the app does not get a broken pipe

_PATH_SAFE = "!#$%&'()*+,/:;=?@[]~"


HOST = "127.0.0.1"  # default of app.ready_host
NOTHING_LISTENS = "nothing listens there; an app must listen on 127.0.0.1, at the port $PORT"
SHOWN = 3  # addresses


class NotYet(Exception):
    """The app does not respond yet. ``str()``: what was seen."""


def pause(waited: float) -> float:
    """Return the seconds until the next try: a share of the time waited so far. An app that takes 100 ms loses at most
    5 ms to it; doubling up to the same limit would lose half a pause, 25 ms, on average."""
    return min(LONGEST_PAUSE, max(FIRST_PAUSE, SHARE * waited))


async def _trusted() -> None:
    """Accept any listener."""


def _untold(seen: str) -> None:
    """Drop what a try has seen."""


async def answering(
    port: int,
    path: str | None,
    one_try: float = ONE_TRY,
    admit: Callable[[], Awaitable[None]] = _trusted,
    *,
    host: str = HOST,
    tell: Callable[[str], None] = _untold,
) -> None:
    """Wait until 127.0.0.1:``port`` accepts a connection or, if ``path`` is given, responds to a GET of it with a
    status below 500. ``admit`` is called after each connect, before anything is sent: OSError or NotYet from it is a
    failed try, any other error is raised. ``host``: the Host header. ``tell`` is called with what each failed try has
    seen, such as "HTTP 503". Has no deadline of its own."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    while True:
        try:
            async with asyncio.timeout(one_try):
                await _ask(port, path, admit, host)
            return
        except TimeoutError:
            tell(f"no response within {one_try:g} s")
        except ConnectionRefusedError:
            tell(NOTHING_LISTENS)
        except OSError as error:
            tell(os.strerror(error.errno) if error.errno else repr(error))
        except (NotYet, local_http.InvalidResponse) as error:
            tell(str(error))
        await asyncio.sleep(pause(clock() - begun))


def elsewhere(listeners: Sequence[Listener], port: int) -> str | None:
    """Return what to change in an app that listens, but not at 127.0.0.1:``port``; None: it does not listen at all."""
    if not listeners:
        return None
    here = [one for one in listeners if one.port == port]
    shown = [f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}" for one in listeners]
    where = f"{', '.join(shown[:SHOWN])}{' …' if len(shown) > SHOWN else ''}"
    advice = "have it listen on 127.0.0.1" if here else "use {port} in the command, or have the app read $PORT"
    return f"nothing listens there; it listens on {where} instead: {advice}"


async def _ask(port: int, path: str | None, admit: Callable[[], Awaitable[None]], host: str) -> None:
    async with local_http.connected(port) as connection:
        await admit()
        if path is not None:
            await connection.send(request(path, host))
            if (status := await connection.status()) >= 500:
                raise NotYet(f"HTTP {status}")
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(POLITE):
                    await connection.drain()


def request(path: str, host: str = HOST) -> bytes:
    """Return a GET of ``path``; characters that no path has are sent as %XX, which prevents injection. ``host``: the
    Host header, checked by launch_plan."""
    target = quote(path if path.startswith("/") else f"/{path}", safe=_PATH_SAFE)
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: flyatc-readiness\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
