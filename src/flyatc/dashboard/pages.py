"""Render pages, read forms, redirect with a notice, ask before what cannot be undone."""

import asyncio
import base64
import functools
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import jinja2
import msgspec
from aiohttp import web

from flyatc import __version__
from flyatc.dashboard.site import FORM, SESSION, equal, session_of, site_of
from flyatc.kit.units import human_seconds, human_size

HERE = Path(__file__).parent
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
BODY_SECONDS = 10.0  # for a form to arrive
NOTICE = "flyatc_dashboard_notice"  # name of a cookie
NOTICE_SECONDS = 60
LONGEST_NOTICE = 1500  # characters
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
NAVIGATION = (
    ("", "Overview"),
    ("users", "Users"),
    ("config", "Config"),
    ("maintenance", "Maintenance"),
    ("store", "Store"),
    ("cost", "Cost"),
)


class Notice(msgspec.Struct, frozen=True):
    """A sentence shown once, on the next page. ``kind``: "good" or "bad"."""

    text: str
    kind: str = "good"


@functools.cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= FILTERS
    return made


@functools.cache
def _statics() -> dict[str, tuple[bytes, str, str]]:
    """Return body, media type and version of the static files, by name."""
    found = {}
    for file in sorted((HERE / "static").iterdir()):
        if file.suffix in _KINDS:
            body = file.read_bytes()
            found[file.name] = body, _KINDS[file.suffix], hashlib.sha256(body).hexdigest()[:12]
    return found


def _asset(request: web.Request, name: str) -> str:
    return site_of(request).url(f"static/{name}", v=_statics()[name][2])


async def static(request: web.Request) -> web.Response:
    found = _statics().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    body, kind, _ = found
    age = "private, max-age=31536000, immutable" if "v" in request.query else "no-cache"
    return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": age})


def context(request: web.Request) -> dict[str, Any]:
    """Return the names that every template has."""
    site, session = site_of(request), request.get(SESSION)
    sessions = request.get("sessions")
    tokens = {} if session is None or sessions is None else {k: sessions.token(session, k) for k in ("form", "live")}
    return {
        "url": site.url,
        "here": request.path[1:],
        "csrf": tokens.get("form", ""),
        "asset": functools.partial(_asset, request),
        "live": lambda name, **query: site.url(name, **query, token=tokens.get("live", "")),
        "notice": request.get("notice"),
        "navigation": NAVIGATION,
        "logged_in": session is not None,
        "insecure": site.insecure,
        "machine": site.machine,
        "jobs": site.jobs.running if session is not None else [],
        "version": __version__,
    }


def text(request: web.Request, template: str, /, **values: Any) -> str:
    """Render a template, or a part of a page for ``live``."""
    return _templates().get_template(template).render(context(request) | values)


def render(request: web.Request, template: str, /, status: int = 200, **values: Any) -> web.Response:
    """Respond with a page."""
    return web.Response(text=text(request, template, **values), status=status, content_type="text/html")


async def form(request: web.Request) -> dict[str, str]:
    """Return the fields of a POST; of several of one name the last. Raises HTTPException if they cannot be read."""
    found = request.get(FORM)
    if found is None:
        found = request[FORM] = await _read(request)
    return dict(found)


async def _read(request: web.Request) -> dict[str, str]:
    if request.content_type not in FORMS:
        raise web.HTTPUnsupportedMediaType(text="This is not what a form of the dashboard sends.")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            fields = await request.post()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="The form did not arrive in time.") from error
    except (ValueError, web.RequestPayloadError) as error:
        raise web.HTTPBadRequest(text="The form cannot be read.") from error
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def redirect(request: web.Request, where: str, notice: str | None = None, kind: str = "good") -> web.Response:
    """Respond 303 to a POST, with a notice for the next page. ``where``: a path from ``site.url``."""
    response = web.Response(status=303, headers={"Location": where})
    if notice is not None:
        path = site_of(request).settings.path
        value = _sealed(request, Notice(notice[:LONGEST_NOTICE], kind))
        response.set_cookie(NOTICE, value, path=path, max_age=NOTICE_SECONDS, httponly=True, samesite="Strict")
    return response


def _sealed(request: web.Request, notice: Notice) -> str:
    data = base64.urlsafe_b64encode(msgspec.json.encode(notice)).decode()
    return f"{data}.{request['sessions'].sign(b'notice ' + data.encode())}"


def read_notice(request: web.Request) -> Notice | None:
    """Return the notice of the request's cookie, None if there is none of ours."""
    data, _, signature = request.cookies.get(NOTICE, "").partition(".")
    if not data or not equal(request["sessions"].sign(b"notice " + data.encode(errors="replace")), signature):
        return None
    return msgspec.json.decode(base64.urlsafe_b64decode(data), type=Notice)


async def confirm(
    request: web.Request, *, title: str, text: str, button: str, back: str, details: tuple[str, ...] = ()
) -> web.Response | None:
    """Return a page that asks before something that cannot be undone, None if the operator has confirmed it. The page
    sends the same fields again. ``back``: a path, for "no"; ``details``: sentences on what will happen."""
    fields = await form(request)
    if fields.pop("confirmed", "") == "yes":
        return None
    fields.pop("csrf", None)
    return render(
        request, "confirm.html", title=title, text=text, button=button, back=back, details=details,
        fields=fields, action=site_of(request).url(request.path[1:]),
    )  # fmt: skip


def valid_form_token(request: web.Request, fields: Mapping[str, str]) -> bool:
    return equal(request["sessions"].token(session_of(request), "form"), fields.get("csrf", ""))


# --- filters of templates ---


def size(octets: float | None) -> str:
    """Return a size for people, or a dash if it is not known."""
    return "–" if octets is None else human_size(octets)


def duration(seconds: float | None) -> str:
    """Return a duration for people, or a dash if it is not known."""
    return "–" if seconds is None else human_seconds(seconds)


def clock(stamp: str | None) -> str:
    """Return the time of an RFC 3339 stamp without fractions: ``2026-11-30 20:15:00 UTC``."""
    return "–" if not stamp else f"{stamp[:10]} {stamp[11:19]} UTC"


def ago(stamp: str | None, now: float | None = None) -> str:
    """Return how long ago the time of an RFC 3339 stamp was, or in how long it will be: ``2 h 5 min ago``."""
    if not stamp:
        return "–"
    past = (time() if now is None else now) - datetime.fromisoformat(stamp).timestamp()
    return f"{duration(past)} ago" if past >= 0 else f"in {duration(-past)}"


def count(number: int, noun: str) -> str:
    """Return ``1 user``, ``2 users``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


FILTERS = {"size": size, "duration": duration, "clock": clock, "ago": ago, "count": count}
