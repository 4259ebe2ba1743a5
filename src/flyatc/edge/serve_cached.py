"""Serve requests from the cache, wait for a coalesced miss, and revalidate in the background (RFC 5861 §3)."""

import asyncio
from collections.abc import Callable
from time import time

from flyatc.delivery import compression
from flyatc.delivery.cache.cache import Cache, Refusal
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.state import Waiting
from flyatc.delivery.cache.stored import CacheHit, Form
from flyatc.delivery.files import x_sendfile
from flyatc.delivery.files.file_response import FileRefused
from flyatc.edge import app_delivery, exchange, responses, static_files, upstream
from flyatc.kit import tasks
from flyatc.wire import head, upstream_connection

Refresh = Callable[[CacheHit], None]
Outcome = CacheHit | Waiting | Refusal


def look_up(to: exchange.Exchange, at: app_delivery.AppDelivery, cache: Cache, *, wait: bool = True) -> Outcome | None:
    """Look the request up in the cache.

    None: forward it to the app; ``to.recording`` must receive the response, if there is one. Otherwise pass the
    result to ``Lookup.take``."""
    waiter, tenant = _placeholder if wait else None, to.tenant or ""
    outcome = cache.look_up(to.head, tenant, time(), waiter, rfc=at.rfc)
    if isinstance(outcome, Recording):
        to.recording, to.cache = outcome, outcome.way.cache
        return None
    return outcome


def _placeholder(again: bool) -> None:
    """Placeholder waiter, replaced by ``Lookup._landed``."""


class Lookup(exchange.WaitingReceiver):
    """A request with a cache result other than a miss. It ends in a response, or in ``go``: forward it to the app.
    ``refresh`` is called after a response was sent that needs revalidation."""

    __slots__ = ("_cache", "_delivery", "_go", "_refresh", "_responder", "_to", "_turn", "_waiting")

    def __init__(
        self,
        to: exchange.Exchange,
        at: app_delivery.AppDelivery,
        cache: Cache,
        responder: responses.Responder,
        go: Callable[[], None],
        refresh: Refresh,
    ) -> None:
        self._to, self._delivery, self._cache, self._responder = to, at, cache, responder
        self._go, self._refresh = go, refresh
        self._waiting: Waiting | None = None
        self._turn: asyncio.Handle | None = None

    def take(self, outcome: Outcome) -> None:
        """Respond from the cache, refuse, or wait for the response to another request."""
        to = self._to
        if isinstance(outcome, Waiting):
            outcome.land = self._landed
            self._waiting, to.receiver = outcome, self
            return None
        if isinstance(outcome, Refusal):
            return self._responder.refuse(to, outcome.status, outcome.reason, own=self._delivery.app.pages)
        send(to, outcome, self._delivery, self._responder)
        if outcome.refresh:
            self._refresh(outcome)
        return None

    def _landed(self, again: bool) -> None:
        """Look up again in the next turn of the loop: this is called while another request's response is handled."""
        self._waiting = None
        self._turn = asyncio.get_running_loop().call_soon(self._look_again, again)

    def _look_again(self, again: bool) -> None:
        self._to.receiver = None
        outcome = look_up(self._to, self._delivery, self._cache, wait=again)
        return self._go() if outcome is None else self.take(outcome)

    # --- the client meanwhile (wire.server.Receiver) ---

    def gone(self) -> None:
        if self._waiting is not None:
            self._waiting.leave()
        if self._turn is not None:
            self._turn.cancel()
        self._to.status, self._to.reason = 499, "the client left while another asked for the same"
        self._to.end()


def send(to: exchange.Exchange, served: CacheHit, at: app_delivery.AppDelivery, responder: responses.Responder) -> None:
    """Send the whole response and end the request."""
    if served.file is not None:
        to.cache = "hit"
        return static_files.send_stored(to, served, at, responder)
    if at.compression is not None:
        _encode(to.head, served, at)
    if served.plain is not None and at.cache is not None and not at.guarded:
        at.cache.keep_ready(served, at.compression)
    return send_rendered(to, served.status, served.head(), served.body)


def send_rendered(to: exchange.Exchange, status: int, opening: bytes, body: bytes) -> None:
    """Send a hit and end the request. ``opening``: see ``CacheHit.head``."""
    close = not (to.keep_alive and to.body_done)
    end = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    to.status, to.cache = status, "hit"
    data = b"%b\r\nX-Request-Id: %b%b%b" % (opening, to.identity, end, body)
    to.head_octets = len(data) - len(body)
    to.send(data)
    to.end()
    to.end_response(close=close)


def _encode(asked: head.RequestHead, served: CacheHit, at: app_delivery.AppDelivery) -> None:
    """Replace the body by its encoded form if the client accepts it. A small body is encoded now; a large one in the
    background for later requests, and sent as it is."""
    assert at.compression is not None
    answer = _head(served)
    plan = compression.wanted(asked, answer, at.compression)
    if plan is None:
        return
    coding, entry = plan.coding, served.entry
    if coding is None or not served.whole:
        compression.Plan(None, plan.why, weak=plan.weak).apply(answer)
        served.lines = b"".join(answer.kept)
        return
    form = entry.forms.get(coding.encode())
    if form is None and len(entry.answer.body) > app_delivery.ONE_STEP_OCTETS:
        compression.Plan(None, plan.why).apply(answer)
        served.lines = b"".join(answer.kept)
        at.encode_later(entry, coding)
        return
    if form is None or not form.lines:
        body = form.body if form is not None else at.encoders.whole(coding, entry.answer.body, jitter=at.jitter)
        plan.apply(answer)
        form = Form(b"".join(answer.kept) + b"\r\nContent-Length: %d" % len(body), body)
        at.keep_form(entry, coding, form)
    served.encode(form, head_only=asked.method == b"HEAD")


def _head(served: CacheHit) -> head.ResponseHead:
    answer = head.ResponseHead()
    length = len(served.entry.answer.body)
    answer.status, answer.reason, answer.dated = served.status, served.reason, True
    answer.kept, answer.noted = [served.lines], {b"content-length": [b"%d" % length]}
    answer.framing, answer.length, answer.minor = head.LENGTH, length, 1
    return answer


MOST_SECONDS = 60.0


class RefreshRequest:
    """Background revalidation: a wire.upstream_connection.ResponseReceiver that feeds only the recording."""

    def __init__(
        self,
        recording: Recording,
        through: upstream.Gateway,
        at: app_delivery.AppDelivery,
        method: bytes,
        app_head: bytes,
    ) -> None:
        self._recording, self._gateway, self._delivery = recording, through, at
        self._method, self._head = method, app_head
        self._app: upstream_connection.AppConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self) -> None:
        tasks.start(self._dial(), "refresh")

    async def _dial(self) -> None:
        try:
            connection = self._gateway.idle(repeatable=True) or await self._gateway.dial()
        except (OSError, TimeoutError):
            return self._end(failed=True)
        if not connection.alive:
            return self._end(failed=True)
        self._app = connection
        self._timer = asyncio.get_running_loop().call_later(MOST_SECONDS, self.response_failed, "it takes too long")
        return connection.ask(self, self._method, self._head)

    def interim(self, response_head: head.ResponseHead) -> None:
        """Ignored: there is no client."""

    def response(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> None:
        paths = self._delivery.paths
        if paths is not None and not paths.names.isdisjoint(response_head.noted):
            paths.apply(response_head, self._recording.asked.head)
        named = not response_head.noted.keys().isdisjoint(x_sendfile.FROM_APPS)
        file = self._delivery.sendfile.find(response_head) if named and self._delivery.sendfile is not None else None
        if named and file is None and response_head.status != 304:
            return self._end(failed=True)  # X-Sendfile was switched off meanwhile: the body is not the file
        if static_files.record(self._recording, response_head, file) is not None:
            return self._end(reuse=complete, ended=True)
        if file is not None:
            return self._take_file(file, reuse=complete)
        if body:
            self._recording.body(bytes(body))
        return self._end(reuse=True) if complete else None

    def _take_file(self, file: static_files.Named, *, reuse: bool) -> None:
        if isinstance(file, FileRefused):
            return self._end(reuse=reuse, ended=True)
        file.close()
        return self._end(reuse=reuse)

    def response_body(self, data: bytes | memoryview) -> None:
        self._recording.body(bytes(data))

    def response_end(self, trailers: list[bytes]) -> None:
        self._end(reuse=True)

    def response_failed(self, reason: str) -> None:
        self._end(failed=True)

    def app_writable(self, ready: bool) -> None:
        """Ignored: only a head is sent."""

    def _end(self, *, reuse: bool = False, ended: bool = False, failed: bool = False) -> None:
        """``ended``: the recording has ended already."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        app, self._app = self._app, None
        if app is not None:
            app.release(reuse=reuse)
        if failed:
            self._recording.fail(time())
        elif not ended:
            self._recording.end()
