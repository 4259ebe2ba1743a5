"""Responses that flyatc generates itself: errors, redirects, replays, the waiting page.

Browsers get an HTML page, built in or the operator's (``pages:``); other clients get JSON.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from flyatc.edge import access_log, exchange, maintenance_rules
from flyatc.edge.headers import new_id
from flyatc.wire import response
from flyatc.wire.errors import BadMessage

TITLES = {
    400: ("This request cannot be understood", "Something between you and this server wrote it in an unexpected way."),
    401: ("Please log in", "This address is open to those who have a name and a password."),
    404: ("There is nothing here", "Check the address: it may be misspelled, or what stood here has moved."),
    405: ("This is not possible here", "The address exists, but not for this kind of request."),
    408: ("The request took too long", "It did not arrive completely. Please try again."),
    411: ("The size is missing", "The server accepts uploads only if their size is announced."),
    413: ("This is too large", "The server does not take uploads of this size."),
    414: ("The address is too long", "Check the address: it may have been put together wrongly."),
    429: ("Too many attempts", "Please wait a little, then try again."),
    431: ("The request's head is too large", "Deleting the cookies of this site often helps."),
    502: ("The application did not answer", "The failure was logged. Please try again in a moment."),
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

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})  # as html.escape


def builtin(status: int, identity: str, text: str | None = None) -> bytes:
    """Return the built-in error page. ``text``: replaces the built-in text; not yet escaped."""
    title, ours = TITLES.get(status, _UNKNOWN)
    text = ours if text is None else text.translate(_ESCAPES)
    foot = f"{status} · request {identity.translate(_ESCAPES)}"
    return _PAGE.format(title=title, text=text, foot=foot, refresh="", bar="").encode()


def waiting(seconds: int, identity: str, place: int | None = None, state: str = "starting") -> bytes:
    """Return the built-in waiting page, which reloads after ``seconds``. ``place``: in the start queue; None: the app
    is being started or prepared, see ``state``."""
    text, state = (WAITING[1], state) if place is None else (IN_LINE.format(place), "queued")
    refresh = f'\n<meta http-equiv="refresh" content="{seconds}">'
    foot = f"{state} · request {identity.translate(_ESCAPES)}"
    bar = '\n<div class="bar" role="progressbar"><i></i></div>'
    return _PAGE.format(title=WAITING[0], text=text, foot=foot, refresh=refresh, bar=bar).encode()


def problem(status: int, title: str, identity: str, retry_after: int | None, place: int | None = None) -> bytes:
    """Return an error as one JSON object, for clients that are not browsers."""
    what: dict[str, object] = {"error": title, "status": status, "request_id": identity}
    if retry_after is not None:
        what["retry_after"] = retry_after
    if place is not None:
        what["queued"] = place
    return msgspec.json.encode(what) + b"\n"


class Pages:
    """The operator's own pages, by the path of their file. Read once per configuration."""

    def __init__(self, files: Iterable[str]) -> None:
        self._bodies: dict[str, bytes] = {}
        for file in set(files):
            try:
                self._bodies[file] = Path(file).read_bytes()
            except OSError:  # it existed when the configuration was checked; the built-in page replaces it
                continue

    def own(self, pages: Mapping[str, str], kind: str) -> bytes | None:
        """Return the body of the page for ``kind`` (a status, or ``waiting``), None if there is none."""
        file = pages.get(kind)
        return None if file is None else self._bodies.get(file)


Headers = list[tuple[bytes, bytes]]

CLOSED_RETRY_SECONDS = 60
FABRICATED = b"abcd1234"  # the machine id of fly-apps/js-sqlite-in-tigris if FLY_APP_NAME is not set
_REPLAYED_TEXT = b"Another machine serves this; Fly Proxy replays the request there.\n"
_REPLAYED = (
    b"HTTP/1.1 409 Conflict%b%b\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nX-Request-Id: "
)
_REPLAYED_END = b"\r\nContent-Length: %d\r\n\r\n" % len(_REPLAYED_TEXT)
_REPLAYED_LAST = b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_REPLAYED_TEXT)
REPLAYED = 409  # Fly's documents ask for no status; its own library for Ruby sends this one


class Responder:
    """Builds and sends the responses. ``top``: the configuration's pages for responses that belong to no tenant.
    ``fixed``: by status, headers and body of the errors that are the same for every client."""

    def __init__(
        self, own: Pages, top: Mapping[str, str], fixed: Mapping[int, tuple[Headers, bytes]] | None = None
    ) -> None:
        self._own, self._top, self._fixed = own, top, fixed or {}

    def redirect(self, to: exchange.Exchange, location: bytes, reason: str) -> None:
        """Redirect with 308, which keeps method and body (RFC 9110 §15.4.9)."""
        self._send(to, 308, [(b"Location", location)], b"", reason)

    def plain(self, to: exchange.Exchange, status: int, text: bytes) -> None:
        """Respond with plain text, for health checks and ``OPTIONS *``."""
        self._send(
            to, status, [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Cache-Control", b"no-store")], text, None
        )

    def fail(self, to: exchange.Exchange, own: Mapping[str, str]) -> None:
        """End the wait of a request after an unexpected error, which its task raises again, and so logs. ``own``: see
        ``refuse``."""
        to.receiver = None
        self.refuse(to, 500, "an unexpected error: see the line about it", own=own)

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
        """Send an error. ``reason`` is for the log only; ``own``: the tenant's pages; ``owner``: the machine that
        serves instead; ``place``: in the start queue."""
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

    def ask_for_login(self, to: exchange.Exchange, realm: str, reason: str, own: Mapping[str, str]) -> None:
        """Respond 401 with a challenge (RFC 7617 §2). ``realm``: without quotation marks."""
        headers, body = self._problem(401, to.identity.decode("latin-1"), None, own, html=wants_html(to))
        headers.append((b"WWW-Authenticate", b'Basic realm="%b", charset="UTF-8"' % realm.encode()))
        self._send(to, 401, headers, body, reason)

    def maintenance(self, to: exchange.Exchange, found: maintenance_rules.Closed, own: Mapping[str, str]) -> None:
        """Respond 503 with the operator's maintenance message."""
        identity, retry, message = to.identity.decode("latin-1"), CLOSED_RETRY_SECONDS, found.message
        if wants_html(to):
            body, kind = self._own.own(own, "503") or builtin(503, identity, message), b"text/html; charset=utf-8"
        else:
            body, kind = problem(503, message, identity, retry), b"application/json"
        headers: Headers = [(b"Content-Type", kind), (b"Cache-Control", b"no-store"), (b"Retry-After", b"%d" % retry)]
        self._send(to, 503, headers, body, found.reason)

    def replay(self, to: exchange.Exchange, opening: bytes, reason: str) -> None:
        """Send a replay, which begins with ``opening``: see ``replay_opening``."""
        to.status, to.reason = REPLAYED, reason
        close = not (to.keep_alive and to.body_done)
        head = b"%b%b%b" % (opening, to.identity, _REPLAYED_LAST if close else _REPLAYED_END)
        to.head_octets = len(head)
        to.send(head if to.head.method == b"HEAD" else head + _REPLAYED_TEXT)
        to.end()
        to.end_response(close=close)

    def reject_signature(self, to: exchange.Exchange, reason: str) -> None:
        """Respond 403 on the private network: missing or invalid signature. The response gives no details."""
        self._send(to, 403, [(b"Flyatc-Seal", b"refused"), (b"Cache-Control", b"no-store")], b"", reason, close=True)

    def malformed(self, records: access_log.Recorder, peer: str, fault: BadMessage, started: bytes) -> bytes:
        """Return the response to a malformed request, and log it. ``started``: its bytes so far; if they name text/html
        the response is a page, as for a browser whose cookies are too large (431)."""
        identity = new_id()
        records.refused(peer, identity.decode(), fault)
        html = b"text/html" in started
        headers, body = self._problem(fault.status, identity.decode(), None, self._top, html=html)
        headers.append((b"X-Request-Id", identity))
        return response.build(fault.status, headers, body, head_only=started.startswith(b"HEAD "), close=True)

    def waiting(
        self,
        to: exchange.Exchange,
        reason: str,
        own: Mapping[str, str],
        place: int | None = None,
        state: str = "starting",
    ) -> None:
        """Send the waiting page, which reloads itself while the app starts. ``place``: in the start queue."""
        seconds = 2
        body = self._own.own(own, "waiting") or waiting(seconds, to.identity.decode("latin-1"), place, state)
        headers: Headers = [
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Cache-Control", b"no-store"),
            (b"Retry-After", b"%d" % seconds),
            (b"Refresh", b"%d" % seconds),
        ]
        self._send(to, 503, headers, body, reason)

    def imitate_replay(self, to: exchange.Exchange) -> None:
        """Respond as js-sqlite-in-tigris does, outside Fly, on another user's machine: to GET and HEAD exactly its 200
        with a replay to a machine that does not exist. It has no other methods: they get REPLAYED, so that no client
        takes them for success."""
        status = 200 if to.head.method in (b"GET", b"HEAD") else REPLAYED
        headers: Headers = [(b"Fly-Replay", b"instance=" + FABRICATED), (b"Cache-Control", b"no-store")]
        self._send(to, status, headers, b"", "this machine serves another user only, and there is no Fly Proxy")

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
        if (fixed := self._fixed.get(status)) is not None:
            return [*fixed[0]], fixed[1]
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
        to.status, to.reason = status, reason
        close = close or not to.keep_alive or not to.body_done
        headers.append((b"X-Request-Id", to.identity))
        to.send(response.build(status, headers, body, head_only=to.head.method == b"HEAD", close=close))
        to.end()
        to.end_response(close=close)


def replay_opening(lines: Headers) -> bytes:
    """Return the start of a replay, up to the request id. Fly Proxy follows the header ``lines`` and discards this
    response. Without Fly Proxy the client gets it: a conflict (RFC 9110 §15.5.10), which no cache stores and no client
    takes for success."""
    return _REPLAYED % (response.date_line(), b"".join([b"\r\n%b: %b" % line for line in lines]))


def shows_page(to: exchange.Exchange) -> bool:
    """Return whether the waiting page can be shown: only to a page load in a browser. Other requests wait, or get
    503."""
    return to.head.method == b"GET" and wants_html(to)


def wants_html(to: exchange.Exchange) -> bool:
    """Return whether the client accepts text/html: a browser's page load does; fetch(), curl and API clients do not."""
    accept = to.head.line(b"accept")
    return accept is not None and b"text/html" in accept
