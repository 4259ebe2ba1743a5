"""Answers of our own: what went wrong, in the form which the visitor can read.

The pages that flyatc shows by itself: ours, or the operator's (``pages:``). Read once per configuration.
"""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import msgspec

from flyatc.edge import exchange, maintenance_rules
from flyatc.wire import response

TITLES = {
    400: ("This request cannot be understood", "Something between you and this server wrote it in an unexpected way."),
    404: ("There is nothing here", "Check the address: it may be misspelled, or what stood here has moved."),
    405: ("This is not possible here", "The address exists, but not for this kind of request."),
    408: ("The request took too long", "It did not arrive completely. Please try again."),
    411: ("The size is missing", "The server takes uploads only when it is told beforehand how large they are."),
    413: ("This is too large", "The server does not take uploads of this size."),
    414: ("The address is too long", "Check the address: it may have been put together wrongly."),
    431: ("The request's head is too large", "Deleting the cookies of this site often helps."),
    502: ("The application did not answer", "It has been told. Please try again in a moment."),
    503: ("Not available at the moment", "Please try again in a moment."),
    504: ("The application took too long", "It did not answer in time. Please try again in a moment."),
}
WAITING = ("One moment, please", "This application is being started for you. The page will appear by itself.")
IN_LINE = "Other applications are being started first. Place in line: {}. The page will appear by itself."
_UNKNOWN = ("Something went wrong", "Please try again in a moment.")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">{refresh}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2733; --soft: #5d6b7a; --paper: #f6f7f9; --line: #d9dee5;
  --accent: #2f6fde }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8edf3; --soft: #93a1b1; --paper: #12171d; --line: #2a333d;
  --accent: #78a6ff }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }}
main {{ width: min(34rem, 100% - 3rem); padding: 3rem 0 }}
h1 {{ margin: 0 0 .6rem; font-size: clamp(1.5rem, 4vw, 2rem); line-height: 1.2; letter-spacing: -.01em;
  text-wrap: balance }}
p {{ margin: 0; color: var(--soft) }}
small {{ display: block; margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .8125rem; overflow-wrap: anywhere }}
.bar {{ height: 4px; margin-top: 2rem; border-radius: 2px; background: var(--line); overflow: hidden }}
.bar i {{ display: block; width: 35%; height: 100%; border-radius: 2px; background: var(--accent);
  animation: go 1.4s ease-in-out infinite }}
@keyframes go {{ from {{ transform: translateX(-100%) }} to {{ transform: translateX(290%) }} }}
@media (prefers-reduced-motion: reduce) {{ .bar i {{ animation: none; width: 100%; opacity: .5 }} }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>{bar}
<small>{foot}</small>
</main>
</body>
</html>
"""


def builtin(status: int, identity: str, text: str | None = None) -> bytes:
    """``text``: other words than ours, not yet escaped."""
    title, ours = TITLES.get(status, _UNKNOWN)
    text = ours if text is None else escape(text)
    foot = f"{status} · request {escape(identity)}"
    return _PAGE.format(title=title, text=text, foot=foot, refresh="", bar="").encode()


def waiting(seconds: int, identity: str, place: int | None = None) -> bytes:
    """``place``: in line to be started; None: it is being started."""
    text, state = (WAITING[1], "starting") if place is None else (IN_LINE.format(place), "queued")
    refresh = f'\n<meta http-equiv="refresh" content="{seconds}">'
    foot, bar = f"{state} · request {escape(identity)}", '\n<div class="bar" role="progressbar"><i></i></div>'
    return _PAGE.format(title=WAITING[0], text=text, foot=foot, refresh=refresh, bar=bar).encode()


def problem(status: int, title: str, identity: str, retry_after: int | None, place: int | None = None) -> bytes:
    """The same for programs: one JSON object."""
    what: dict[str, object] = {"error": title, "status": status, "request_id": identity}
    if retry_after is not None:
        what["retry_after"] = retry_after
    if place is not None:
        what["queued"] = place
    return msgspec.json.encode(what) + b"\n"


class Pages:
    """The operator's own pages, by the path of their file."""

    def __init__(self, files: Iterable[str]) -> None:
        self._bodies: dict[str, bytes] = {}
        for file in set(files):
            try:
                self._bodies[file] = Path(file).read_bytes()
            except OSError:  # it was there when the configuration was checked; ours serves as well
                continue

    def own(self, pages: Mapping[str, str], kind: str) -> bytes | None:
        """``kind``: a status, or ``waiting``."""
        file = pages.get(kind)
        return None if file is None else self._bodies.get(file)


Headers = list[tuple[bytes, bytes]]

CLOSED_RETRY_SECONDS = 60
FABRICATED = b"abcd1234"  # by fly-apps/js-sqlite-in-tigris, where FLY_APP_NAME is not set
REPLAYED = 409  # Fly's documents ask for no status; its own library for Ruby sends this one


class Responder:
    """``pages``: those of the configuration for answers which belong to no tenant."""

    def __init__(self, own: Pages, top: Mapping[str, str]) -> None:
        self._own, self._top = own, top

    def redirect(self, to: exchange.Exchange, location: bytes, reason: str) -> None:
        """308: method and body stay what they are (RFC 9110 §15.4.9)."""
        self._send(to, 308, [(b"Location", location)], b"", reason)

    def plain(self, to: exchange.Exchange, status: int, text: bytes) -> None:
        self._send(
            to, status, [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Cache-Control", b"no-store")], text, None
        )

    def refuse(
        self,
        to: exchange.Exchange,
        status: int,
        reason: str,
        *,
        retry_after: float | None = None,
        own: Mapping[str, str] | None = None,
        close: bool = False,
        owner: str | None = None,
        place: int | None = None,
    ) -> None:
        """``reason`` is for the log only; ``own``: the tenant's pages; ``owner``: the machine to ask instead;
        ``place``: in line to be started."""
        retry = None if retry_after is None else max(1, round(retry_after))
        identity = to.identity.decode("latin-1")
        headers, body = self._problem(
            status, identity, retry, own if own is not None else self._top, html=wants_html(to), place=place
        )
        if retry is not None:
            headers.append((b"Retry-After", b"%d" % retry))
        if owner is not None:
            headers.append((b"Flyatc-Owner", owner.encode("latin-1", "replace")))
        if status == 405:  # only files refuse methods
            headers.append((b"Allow", b"GET, HEAD"))
        self._send(to, status, headers, body, reason, close=close)

    def closed(self, to: exchange.Exchange, found: maintenance_rules.Closed, own: Mapping[str, str]) -> None:
        """Maintenance: 503 with the operator's words."""
        identity, retry, message = to.identity.decode("latin-1"), CLOSED_RETRY_SECONDS, found.message
        if wants_html(to):
            body, kind = self._own.own(own, "503") or builtin(503, identity, message), b"text/html; charset=utf-8"
        else:
            body, kind = problem(503, message, identity, retry), b"application/json"
        headers: Headers = [(b"Content-Type", kind), (b"Cache-Control", b"no-store"), (b"Retry-After", b"%d" % retry)]
        self._send(to, 503, headers, body, found.reason)

    def replay(self, to: exchange.Exchange, lines: Headers, reason: str) -> None:
        """For Fly Proxy, which delivers the request as the lines say, and this answer to nobody. Where none stands in
        front the visitor sees it: a conflict (RFC 9110 §15.5.10), which nothing between us stores or takes for done."""
        headers: Headers = [
            *lines,
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Cache-Control", b"no-store"),
        ]
        self._send(to, REPLAYED, headers, b"Another machine serves this; Fly Proxy knows the way.\n", reason)

    def distrust(self, to: exchange.Exchange, reason: str) -> None:
        """On the private network: without a seal of ours. Who is one of us is told no more than that."""
        self._send(to, 403, [(b"Flyatc-Seal", b"refused"), (b"Cache-Control", b"no-store")], b"", reason, close=True)

    def no_request(self, status: int, identity: bytes, started: bytes) -> bytes:
        """The answer to what is no request, of which ``started`` has come: a browser whose cookies are too large
        (431) is told so in words."""
        html = b"text/html" in started
        headers, body = self._problem(status, identity.decode("latin-1"), None, self._top, html=html)
        headers.append((b"X-Request-Id", identity))
        return response.build(status, headers, body, head_only=started.startswith(b"HEAD "), close=True)

    def waiting(self, to: exchange.Exchange, reason: str, own: Mapping[str, str], place: int | None = None) -> None:
        """The page which a browser is shown while an app starts; it reloads itself. ``place``: in line for that."""
        seconds = 2
        body = self._own.own(own, "waiting") or waiting(seconds, to.identity.decode("latin-1"), place)
        headers: Headers = [
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Cache-Control", b"no-store"),
            (b"Retry-After", b"%d" % seconds),
            (b"Refresh", b"%d" % seconds),
        ]
        self._send(to, 503, headers, body, reason)

    def as_on_fly(self, to: exchange.Exchange) -> None:
        """Outside Fly, on another user's machine: word for word what js-sqlite-in-tigris answers there to GET and HEAD,
        200 with nothing but a machine that does not exist. It knows no other methods: they get the status of a replay,
        since nobody shall take them for done."""
        status = 200 if to.request.head.method in (b"GET", b"HEAD") else REPLAYED
        headers: Headers = [(b"Fly-Replay", b"instance=" + FABRICATED), (b"Cache-Control", b"no-store")]
        self._send(to, status, headers, b"", "this machine serves another user only, and nobody outside Fly is asked")

    def _problem(
        self,
        status: int,
        identity: str,
        retry: int | None,
        own: Mapping[str, str],
        *,
        html: bool,
        place: int | None = None,
    ) -> tuple[Headers, bytes]:
        if html:
            kind, body = b"text/html; charset=utf-8", self._own.own(own, str(status)) or builtin(status, identity)
        else:
            title = TITLES.get(status, ("Error", ""))[0]
            kind, body = b"application/json", problem(status, title, identity, retry, place)
        return [(b"Content-Type", kind), (b"Cache-Control", b"no-store")], body

    def _send(
        self,
        to: exchange.Exchange,
        status: int,
        headers: Headers,
        body: bytes,
        reason: str | None,
        *,
        close: bool = False,
    ) -> None:
        request = to.request
        to.status, to.reason = status, reason
        close = close or not request.keep_alive or not request.body_done
        headers.append((b"X-Request-Id", to.identity))
        request.send(response.build(status, headers, body, head_only=request.head.method == b"HEAD", close=close))
        to.end()
        request.end(close=close)


def shows_page(to: exchange.Exchange) -> bool:
    """Only a page load in a browser can be told to come again: anything else waits, or is told 503."""
    return to.request.head.method == b"GET" and wants_html(to)


def wants_html(to: exchange.Exchange) -> bool:
    """A browser's page load asks for text/html; fetch(), curl and API clients do not."""
    accept = to.request.head.line(b"accept")
    return accept is not None and b"text/html" in accept
