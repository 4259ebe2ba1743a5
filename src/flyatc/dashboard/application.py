"""The dashboard as an aiohttp application: its routes, and what applies to all of them. Paths of requests are relative
to ``dashboard.path``, which the edge removes; so a reload may change it.

Apps of tenants share its origin unless ``dashboard.host`` is set, so a page of an app could fetch from it with the
operator's cookie. Browsers say in Sec-Fetch-Dest what a response is for: a page is given to a window only, never to a
script, a frame or an image; what scripts may fetch needs a token that only the page has.
"""

import asyncio
import contextlib
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from time import time
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from flyatc.auth.attempts import network
from flyatc.control import refuse_apps
from flyatc.control.api import status_of
from flyatc.dashboard import (
    config_page,
    cost_page,
    jobs_page,
    login,
    maintenance_page,
    overview_page,
    pages,
    store_page,
    tenant_log,
    tenant_page,
    tenant_versions,
    users_page,
)
from flyatc.dashboard.cost_page import COSTS, Costs
from flyatc.dashboard.live import FOLLOWERS, Followers
from flyatc.dashboard.site import PORTS, SESSION, SITE, Site, address_of, agent_of, equal, session_of
from flyatc.kit.errors import FlyatcError

MOST_BODY = 1 << 20  # octets
MOST_STRANGERS, MOST_OF_ONE = 40, 8  # requests without a session at the same time: of all, and of one client
MOST_COOKIES = 200  # of one name, which are tried; a browser keeps no more of one host
LONGEST_QUERY = 8192  # characters
LIVE, STATIC = "/live", "static/"  # the last part of addresses that scripts fetch; the first of those of files
MODULES = (
    login, overview_page, tenant_page, tenant_versions, tenant_log, users_page, config_page, maintenance_page,
    store_page, cost_page, jobs_page,
)  # fmt: skip

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "noopener-allow-popups",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Server": "flyatc",
}
_OTHER_FORM = "The form is from another session: reload the page, and send it again."
_BY_PROXIES = ("Via", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip")
_LOCAL = ("localhost", "127.0.0.1", "::1")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(site: Site) -> web.Application:
    guard = _Guard(site)
    app = web.Application(client_max_size=MOST_BODY, middlewares=[guard.errors, guard.fetches, guard.session])
    app[SITE], app[FOLLOWERS], app[COSTS] = site, Followers(), Costs(site)
    app.on_response_prepare.append(_harden)
    found = [web.get("static/{name}", pages.static), *(one for module in MODULES for one in module.routes(site))]
    for one in found:
        app.router.add_route(one.method, f"/{one.path}", one.handler)
    return app


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


class _Guard:
    """The middlewares, outermost first."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._strangers: Counter[str] = Counter()  # requests without a session, by client

    @web.middleware
    async def errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn errors into pages."""
        try:
            return await handler(request)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except web.HTTPException as error:
            return _error_page(request, error.status, _sentence(error))
        except FlyatcError as error:
            reason = str(error).encode(errors="replace").decode()
            if request.method == "POST" and SESSION in request:
                return pages.redirect(request, self._back(request), reason, "bad")
            return _error_page(request, status_of(error), reason)
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            where = f"{request.method} {request.path}"
            self._site.log.event("error", "a page of the dashboard failed: a bug in flyatc", page=where, error=trace)
            return _error_page(request, 500, f"A bug in flyatc: {type(error).__name__}. The daemon's log says more.")

    @web.middleware
    async def fetches(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests that a browser does not make for a page of the dashboard."""
        if len(request.rel_url.raw_query_string) > LONGEST_QUERY:
            raise web.HTTPRequestURITooLong(text="The address is too long.")
        if (why := self._unfit(request)) is not None:
            raise web.HTTPForbidden(text=why)
        if self._site.insecure and await asyncio.to_thread(_is_of_app, request):
            raise web.HTTPForbidden(text="The processes of an app may not use the dashboard.")
        return await handler(request)

    @web.middleware
    async def session(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit requests with a session; of others only those for the login and for files."""
        name = request.path[1:]
        if name.startswith(STATIC):
            return await handler(request)
        sessions = request["sessions"] = await self._site.sessions()
        made = self._find(request)
        if SESSION not in request and name != "login":
            if request.method == "GET" and not name.endswith(LIVE):
                wanted = self._site.url(name) + (f"?{request.query_string}" if request.query_string else "")
                return web.Response(status=303, headers={"Location": self._site.url("login", next=wanted)})
            raise web.HTTPForbidden(text="You are not logged in any more. Open the dashboard again.")
        with self._counted(request):
            if request.method == "POST" and name != "login":  # which limits attempts before it reads
                fields = await pages.form(request)
                if not pages.valid_form_token(request, fields):
                    raise web.HTTPForbidden(text=_OTHER_FORM)
            if name.endswith(LIVE) and not equal(
                sessions.token(session_of(request), "live"), request.query.get("token", "")
            ):
                raise web.HTTPForbidden(text="The page is from another session: reload it.")
            request["notice"] = pages.read_notice(request)
            response = await handler(request)
        if not response.prepared:
            if request["notice"] is not None and response.status == 200:
                response.del_cookie(pages.NOTICE, path=self._site.settings.path)
            if made is not None:
                login.set_session(request, response, made)
        return response

    def _find(self, request: web.Request) -> str | None:
        """Set the request's session, if its cookie is of one. Without a password each client gets one: return its
        cookie."""
        sessions, address, agent, now = request["sessions"], address_of(request), agent_of(request), time()
        for cookie in _cookies(request, login.COOKIE):
            if (found := sessions.read(cookie, now, address, agent)) is not None:
                request[SESSION] = found
                return None
        if not self._site.insecure:
            return None
        made = login.begin(request, sessions)
        request[SESSION] = sessions.read(made, now, address, agent)
        return made

    @contextlib.contextmanager
    def _counted(self, request: web.Request) -> Iterator[None]:
        """Limit how many requests without a session there are: they may keep a place for pages.BODY_SECONDS each."""
        if SESSION in request:
            yield
            return
        client = network(address_of(request))
        if self._strangers[client] >= MOST_OF_ONE or self._strangers.total() >= MOST_STRANGERS:
            raise web.HTTPTooManyRequests(text="Too many requests at once. Please try again in a moment.")
        self._strangers[client] += 1
        try:
            yield
        finally:
            self._strangers[client] -= 1
            if not self._strangers[client]:
                del self._strangers[client]

    def _unfit(self, request: web.Request) -> str | None:
        """Return why a request is refused: by the headers that browsers set and no page can forge (Fetch Metadata)."""
        headers, name = request.headers, request.path[1:]
        if self._site.insecure and not _is_local(request):
            return "Without a password the dashboard is for localhost only. Set dashboard.password."
        if name.startswith(STATIC):
            return None
        if headers.get("Sec-Fetch-Dest") not in (None, "empty" if name.endswith(LIVE) else "document"):
            return "This address is for a window of your browser only, not for a script or a frame."
        if request.method not in ("GET", "HEAD") and _is_foreign(request):
            return "The form was sent by a page of another site."
        return None

    def _back(self, request: web.Request) -> str:
        """Return the page that a form was sent from."""
        came = _split(request.headers.get("Referer", ""))
        back = f"{came.path}?{came.query}" if came.query else came.path
        other = came.path != self._site.url(request.path[1:])
        return (self._site.inside(back) if other else None) or self._site.url()


def _cookies(request: web.Request, name: str) -> list[str]:
    """Return the values of a cookie: a page of an app may have set others of this name beside ours."""
    pairs = (part.strip().partition("=") for value in request.headers.getall("Cookie", []) for part in value.split(";"))
    return [value for key, _, value in pairs if key == name][:MOST_COOKIES]


def _is_foreign(request: web.Request) -> bool:
    """Return whether a page of another site has sent the form. Older browsers say so only in Origin."""
    headers, place = request.headers, request.headers.get("Sec-Fetch-Site", "none")
    if place == "none" and "Origin" in headers:
        return _split(headers["Origin"]).netloc.lower() != request.host.lower()
    return place not in ("same-origin", "none")


def _is_local(request: web.Request) -> bool:
    """Return whether the browser runs on this machine, and names it so: another name may be one that an attacker's DNS
    server has for 127.0.0.1. A proxy on this machine serves others too, which most proxies say in a header."""
    headers, address = request.headers, address_of(request)
    proxied = headers.get("X-Forwarded-For", "") != address or not headers.keys().isdisjoint(_BY_PROXIES)
    return address in _LOCAL and _split(f"//{request.host}").hostname in _LOCAL and not proxied


def _is_of_app(request: web.Request) -> bool:
    """Return whether a process of an app has made the connection, or that cannot be seen."""
    ports = request.headers.get(PORTS, "").split()
    return len(ports) != 2 or refuse_apps.has_app_at(int(ports[0]), int(ports[1]))


def _split(url: str) -> SplitResult:
    """Return the parts of a URL that a client has sent; none if it is malformed."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _sentence(error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return "There is no such page." if error.text in (None, "404: Not Found") else str(error.text)
        case 405:
            return "This page takes no such request."
        case 413:
            return f"The form is larger than {MOST_BODY >> 20} MB."
    return error.text or error.reason


def _error_page(request: web.Request, status: int, reason: str) -> web.Response:
    if request.path.endswith(LIVE):  # which a script of an app may read too, so it must have no token of a form
        return web.Response(text=reason, status=status)
    return pages.render(request, "error.html", status, reason=reason)
