"""Server-sent events that renew parts of a page. Without JavaScript the page shows how things were when it was made."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from time import monotonic, time

import msgspec
from aiohttp import web

from flyatc.control.http_server import write
from flyatc.dashboard.site import session_of, site_of
from flyatc.kit.errors import FlyatcError

EVERY = 1.0  # s
HEARTBEAT = 15.0  # s without an event, then a comment is sent
REST = 20  # times as long as the parts take to make: ten thousand tenants take a while
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
    except FlyatcError:  # the page connects again, in a few seconds
        pass
    except Exception as error:
        if isinstance(error, ConnectionError):
            raise
        trace = "".join(traceback.format_exception(error))
        site_of(request).log.event("error", "a live page failed: a bug in flyatc", page=request.path, error=trace)
    finally:
        followers.count -= 1
    return response


def _response() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"})


async def _follow(request: web.Request, response: web.StreamResponse, fragments: Fragments, every: float) -> None:
    site, session = site_of(request), session_of(request)
    sent: dict[str, str] = {}
    last = monotonic()
    while not site.operations.stopping:
        if time() >= session.expires or not await _still(request):
            return await write(request, response, b"event: end\ndata: {}\n\n")  # the page reloads itself: to the login
        began = monotonic()
        found = fragments()
        parts = found if isinstance(found, dict) else await found
        cost = monotonic() - began
        changed = {name: html for name, html in parts.items() if sent.get(name) != html}
        sent |= changed
        if changed or monotonic() - last > HEARTBEAT:
            last = monotonic()
            await write(request, response, b"".join(map(event, changed.items())) or b":\n\n")
        await asyncio.sleep(max(every, cost * REST))
    return None


async def _still(request: web.Request) -> bool:
    """Return whether the session is still valid: the operator may log out, or the password change."""
    sessions = await site_of(request).sessions()
    return sessions is request["sessions"] and not sessions.has_ended(session_of(request))


def event(part: tuple[str, str]) -> bytes:
    """Return an event that renews one element."""
    return b"data: " + msgspec.json.encode({"id": part[0], "html": part[1]}) + b"\n\n"
