"""Answers of our own: what went wrong, in the form which the visitor can read."""

from collections.abc import Mapping

from flyatc.edge import exchange, pages, verdict
from flyatc.wire import answer

Headers = list[tuple[bytes, bytes]]

CLOSED_RETRY_SECONDS = 60
FABRICATED = b"abcd1234"  # by fly-apps/js-sqlite-in-tigris, where FLY_APP_NAME is not set
REPLAYED = 409  # Fly's documents ask for no status; its own library for Ruby sends this one


class Responder:
    """``pages``: those of the configuration for answers which belong to no tenant."""

    def __init__(self, own: pages.Pages, top: Mapping[str, str]) -> None:
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

    def closed(self, to: exchange.Exchange, found: verdict.Closed, own: Mapping[str, str]) -> None:
        """Maintenance: 503 with the operator's words."""
        identity, retry, message = to.identity.decode("latin-1"), CLOSED_RETRY_SECONDS, found.message
        if wants_html(to):
            body, kind = self._own.own(own, "503") or pages.builtin(503, identity, message), b"text/html; charset=utf-8"
        else:
            body, kind = pages.problem(503, message, identity, retry), b"application/json"
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
        return answer.build(status, headers, body, head_only=started.startswith(b"HEAD "), close=True)

    def waiting(self, to: exchange.Exchange, reason: str, own: Mapping[str, str], place: int | None = None) -> None:
        """The page which a browser is shown while an app starts; it reloads itself. ``place``: in line for that."""
        seconds = 2
        body = self._own.own(own, "waiting") or pages.waiting(seconds, to.identity.decode("latin-1"), place)
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
            kind, body = b"text/html; charset=utf-8", self._own.own(own, str(status)) or pages.builtin(status, identity)
        else:
            title = pages.TITLES.get(status, ("Error", ""))[0]
            kind, body = b"application/json", pages.problem(status, title, identity, retry, place)
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
        request.send(answer.build(status, headers, body, head_only=request.head.method == b"HEAD", close=close))
        to.end()
        request.end(close=close)


def shows_page(to: exchange.Exchange) -> bool:
    """Only a page load in a browser can be told to come again: anything else waits, or is told 503."""
    return to.request.head.method == b"GET" and wants_html(to)


def wants_html(to: exchange.Exchange) -> bool:
    """A browser's page load asks for text/html; fetch(), curl and API clients do not."""
    accept = to.request.head.line(b"accept")
    return accept is not None and b"text/html" in accept
