"""Server-sent events that renew parts of a page. Without JavaScript the page shows how things were when it was made."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic, time

import msgspec
from aiohttp import web

from flyatc.control.http_server import write
from flyatc.dashboard.site import session_of, site_of
from flyatc.kit.errors import FlyatcError

EVERY = 1.0  # s
HEARTBEAT = 15.0  # s without an event, then a comment is sent
MOST_FOLLOWERS = 40  # pages that are live at the same time

Fragments = Callable[[], dict[str, str]] | Callable[[], Awaitable[dict[str, str]]]


class Followers:
    """Counts the pages that are live."""

    def __init__(self) -> None:
        self.count = 0


FOLLOWERS: web.AppKey[Followers] = web.AppKey("followers", Followers)


async def live(request: web.Request, fragments: Fragments, every: float = EVERY) -> web.StreamResponse:
    """Send the parts of a page that have changed, until the client leaves or the session ends. ``fragments``: HTML by
    the id of the element whose content it becomes; called every ``every`` seconds."""
    followers, response = request.app[FOLLOWERS], _response()
    if followers.count >= MOST_FOLLOWERS:
        raise FlyatcError(f"{MOST_FOLLOWERS} pages are live already: this one shows how things were when it was opened")
    followers.count += 1
    try:
        await response.prepare(request)
        await _follow(request, response, fragments, every)
    finally:
        followers.count -= 1
    return response


def _response() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"})


async def _follow(request: web.Request, response: web.StreamResponse, fragments: Fragments, every: float) -> None:
    site, session = site_of(request), session_of(request)
    sent: dict[str, str] = {}
    last = monotonic()
    while time() < session.expires and not site.operations.stopping and await _still(request):
        found = fragments()
        parts = found if isinstance(found, dict) else await found
        changed = {name: html for name, html in parts.items() if sent.get(name) != html}
        sent |= changed
        if changed or monotonic() - last > HEARTBEAT:
            last = monotonic()
            await write(request, response, b"".join(map(event, changed.items())) or b":\n\n")
        await asyncio.sleep(every)
    await write(request, response, b"event: end\ndata: {}\n\n")  # the page may reload itself: to the login, if need be


async def _still(request: web.Request) -> bool:
    """Return whether the session is still valid: the operator may log out, or the password change."""
    sessions = await site_of(request).sessions()
    return sessions is request["sessions"] and not sessions.has_ended(session_of(request))


def event(part: tuple[str, str]) -> bytes:
    """Return an event that renews one element."""
    return b"data: " + msgspec.json.encode({"id": part[0], "html": part[1]}) + b"\n\n"
