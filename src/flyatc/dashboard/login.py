"""Log in and out. Wrong passwords are limited before any is checked, by client and in all, so that guessing costs the
daemon nothing."""

import os
import secrets
from time import monotonic, time

from aiohttp import web

from flyatc.auth import passwords
from flyatc.auth.attempts import FailedLogins
from flyatc.dashboard import pages
from flyatc.dashboard.sessions import ID_OCTETS, SECONDS, Sessions
from flyatc.dashboard.site import SESSION, Site, address_of, agent_of, equal, session_of, site_of
from flyatc.kit.threads import Threads

COOKIE = "flyatc_dashboard"
MOST_BODY = 8192  # octets: reading many fields takes long
MOST_MADE = 8  # pages
WAITING = 4  # passwords whose hash is being checked
FREE_IN_ALL, EACH_IN_ALL = 100.0, 6.0  # failures at once, then one more each so many seconds; of all clients together
KNOWN = "flyatc_dashboard_known"  # cookie of a browser that has logged in before: only its own failures limit it
KNOWN_SECONDS = 365 * 86400
_ALL = "all clients"


class Logins:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._failed, self._failed_in_all = FailedLogins(), FailedLogins(FREE_IN_ALL, EACH_IN_ALL)
        self._threads = Threads(1, "dashboard password")
        self._waiting = 0
        self._made: dict[tuple[str, str], str] = {}  # by path and error

    async def page(self, request: web.Request) -> web.Response:
        if SESSION in request:
            return pages.redirect(request, self._next(request.query.get("next", "")))
        if not request.query_string and request["notice"] is None:
            return web.Response(text=self._plain(request, ""), content_type="text/html")
        return self._form(request)

    async def enter(self, request: web.Request) -> web.Response:
        """Check a password; begin a session if it is right."""
        now, keys = monotonic(), self._limits(request)
        if (wait := max(failed.wait(key, now) for failed, key in keys)) > 0:
            return self._refuse(request, 429, "Too many wrong passwords. Please wait a little, then try again.", wait)
        if self._waiting >= WAITING:
            return self._refuse(request, 503, "Too many logins at once. Please try again in a moment.", 2.0)
        if request.content_type != pages.FORMS[0] or not 0 < (request.content_length or 0) <= MOST_BODY:
            raise web.HTTPBadRequest(text="This is not what the page sends.")
        fields = await pages.form(request)
        if not await self._is_right(fields.get("password", "")):
            for failed, key in keys:
                failed.failed(key, now)
            self._site.log.event("warning", "dashboard: wrong password", operator=address_of(request))
            return self._form(request, 403, "This is not the password.", fields.get("next", ""))
        self._site.audit(request, "logged in")
        response = pages.redirect(request, self._next(fields.get("next", "")))
        set_session(request, response, begin(request, request["sessions"]))
        set_cookie(request, response, KNOWN, _known(request["sessions"], secrets.token_hex(8)), KNOWN_SECONDS)
        return response

    async def leave(self, request: web.Request) -> web.Response:
        request["sessions"].end(session_of(request))
        self._site.audit(request, "logged out")
        response = pages.redirect(request, self._site.url("login"), "You are logged out.")
        response.del_cookie(COOKIE, path=self._site.settings.path)
        return response

    def _limits(self, request: web.Request) -> list[tuple[FailedLogins, str]]:
        """Return the counts that limit this client: of its address, and of all; of a browser that has logged in before
        only its own, so that others cannot keep the operator out, even if a proxy gives all the same address."""
        cookie = request.cookies.get(KNOWN, "")
        if equal(_known(request["sessions"], cookie.partition(".")[0]), cookie):
            return [(self._failed, cookie)]
        return [(self._failed, address_of(request)), (self._failed_in_all, _ALL)]

    async def _is_right(self, given: str) -> bool:
        wanted = self._site.settings.password
        if wanted is None or not wanted.startswith("$"):
            return wanted is not None and equal(wanted, given)
        self._waiting += 1
        try:
            return await self._threads.run(lambda: passwords.matches(given.encode(errors="replace"), wanted))
        finally:
            self._waiting -= 1

    def _form(self, request: web.Request, status: int = 200, error: str = "", next_page: str = "") -> web.Response:
        next_page = self._next(next_page or request.query.get("next", ""))
        return pages.render(request, "login.html", status, error=error, next_page=next_page)

    def _refuse(self, request: web.Request, status: int, error: str, wait: float) -> web.Response:
        """Refuse an attempt unread."""
        headers = {"Retry-After": str(max(1, round(wait)))}
        return web.Response(text=self._plain(request, error), status=status, content_type="text/html", headers=headers)

    def _plain(self, request: web.Request, error: str) -> str:
        """Return the page as it is for all clients, rendered once, since any client may ask for it. It must hold
        nothing of the request, neither of its session nor its notice."""
        if (key := (self._site.settings.path, error)) not in self._made:
            plain = {"logged_in": False, "csrf": "", "notice": None, "jobs": [], "live": None}
            values = plain | {"error": error, "next_page": self._site.url()}
            if len(self._made) >= MOST_MADE:
                self._made.clear()
            self._made[key] = pages.text(request, "login.html", **values)
        return self._made[key]

    def _next(self, given: str) -> str:
        """Return the path to go to after the login: only pages of the dashboard."""
        found = self._site.inside(given)
        return self._site.url() if found is None or found.startswith(self._site.url("log")) else found


def begin(request: web.Request, sessions: Sessions) -> str:
    return sessions.begin(os.urandom(ID_OCTETS), time(), address_of(request), agent_of(request))


def set_session(request: web.Request, response: web.StreamResponse, cookie: str) -> None:
    set_cookie(request, response, COOKIE, cookie, SECONDS)


def set_cookie(request: web.Request, response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
    """Set a cookie that only pages of the dashboard get, no script, and no request from another site."""
    secure, path = request.headers.get("X-Forwarded-Proto", "") == "https", site_of(request).settings.path
    response.set_cookie(name, value, path=path, max_age=seconds, httponly=True, samesite="Strict", secure=secure)


def _known(sessions: Sessions, name: str) -> str:
    return f"{name}.{sessions.sign(b'known ' + name.encode(errors='replace'))}"


def routes(site: Site) -> list[web.RouteDef]:
    logins = Logins(site)
    return [
        web.get("login", logins.page),
        web.post("login", logins.enter),
        web.post("logout", logins.leave),
    ]
