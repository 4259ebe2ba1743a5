"""One request on its way to the app, and the answer on its way back.

Called by both connections, never awaiting: what the visitor sends goes to the app, what the app sends goes to the
visitor, and whoever is slow holds up the other. It ends in exactly one of: ``_finish`` (the answer is complete),
``_fail`` (before its first byte: an answer of our own), ``_cut`` (amid it: the connection is cut), ``gone`` (the
visitor has left).
"""

import asyncio
from collections.abc import Callable

from flyatc.config.schema import App
from flyatc.edge import exchange, gateway, headers, respond
from flyatc.kit import tasks
from flyatc.wire import answer, chunked, client, head, tunnel
from flyatc.wire.faults import BadMessage

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
# An app which does not know Expect gets its body after this (RFC 9110 §10.1.1: a client may wait for ever).
CONTINUE_SECONDS = 1.0

TRIES = 3


class Forward:
    """``receive``s the visitor's request (wire.server.Receiver) and is the app's asker (wire.client.Client)."""

    __slots__ = (
        "_again", "_app", "_chunks", "_continued", "_exchange", "_gateway", "_head", "_held", "_last", "_over",
        "_request", "_responder", "_seen", "_sent_all", "_settings", "_timer", "_tries",
    )  # fmt: skip

    def __init__(
        self,
        to: exchange.Exchange,
        through: gateway.Gateway,
        settings: App,
        app_head: bytes,
        responder: respond.Responder,
        again: Callable[[], None] | None = None,
    ) -> None:
        """``again``: what to do where the app takes no connection, and so has not seen the request; None: 502."""
        self._exchange, self._request, self._gateway = to, to.request, through
        self._settings, self._head, self._responder = settings, app_head, responder
        self._again = again
        self._app: client.AppConnection | None = None
        self._sent_all = to.request.body_done
        self._continued = False
        self._tries = 0
        self._seen = False  # an app may have read the request, and even have died of it
        self._chunks = False  # the answer's body goes out in chunks of ours
        self._last = False  # the connection ends with this answer, and the visitor was told so
        self._held = False  # the visitor takes no more for now
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    # --- the start ---

    def begin(self) -> None:
        request = self._request
        request.receiver = self
        connection = self._gateway.idle(repeatable=self._repeatable())
        if connection is not None:
            self._ask(connection)
        else:
            tasks.start(self._dial(), "dial")

    def _repeatable(self) -> bool:
        return self._request.head.framing is head.NEVER and self._request.head.method in IDEMPOTENT

    async def _dial(self) -> None:
        try:
            connection = await self._gateway.dial()
        except (OSError, TimeoutError) as error:
            if isinstance(error, ConnectionRefusedError) and not self._seen and not self._over and self._again:
                return self._hand_back(self._again)
            return self._fail(502, f"the app does not take connections: {error or 'time-out'}")
        if self._over:
            return connection.release(reuse=False)
        if not connection.alive:
            return self._fail(502, "the app closed the connection at once")
        return self._ask(connection)

    def _hand_back(self, again: Callable[[], None]) -> None:
        """Nobody listens any more: the app has just died, and the next one may serve this request."""
        self._over = True
        self._cancel_timer()
        self._request.receiver = None
        again()

    def _ask(self, connection: client.AppConnection) -> None:
        self._app = connection
        connection.ask(self, self._request.head.method, self._head)
        if self._sent_all:
            return self._await_answer()
        if b"expect" in self._request.head.noted and self._request.head.minor:
            self._later(CONTINUE_SECONDS, self._continue)
        return self._request.receive()

    def _await_answer(self) -> None:
        """From now on it is the app's turn: it has the whole request, or takes no more of it."""
        if self._settings.response_timeout and not self._request.answered:
            self._later(self._settings.response_timeout, self._too_late)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, what)

    def _continue(self) -> None:
        """The app has said nothing to Expect: the visitor may send."""
        if not self._continued and not self._over:
            self._continued = True
            self._request.interim(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _too_late(self) -> None:
        self._fail(504, f"no answer within {self._settings.response_timeout:g} s")

    # --- the visitor's side (wire.server.Receiver) ---

    def body(self, data: bytes) -> None:
        if self._app is not None:
            self._app.send(chunked.encode([data]) if self._request.head.framing is head.CHUNKED else data)

    def body_end(self, trailers: list[bytes]) -> None:
        self._sent_all = True
        if self._app is not None and self._request.head.framing is head.CHUNKED:
            self._app.send(chunked.last(trailers))
        self._await_answer()

    def body_failed(self, fault: BadMessage) -> None:
        if self._request.answered:
            self._cut(fault.reason)
        else:
            self._fail(fault.status, fault.reason, close=True)

    def gone(self) -> None:
        if not self._over:
            if not self._request.answered:
                self._exchange.status = 499
            self._exchange.reason = "the visitor left"
            self._leave()
            self._exchange.end()

    def writable(self, ready: bool) -> None:
        self._held = not ready
        if self._app is not None:
            self._app.hold(not ready)

    # --- the app's side (wire.client.Client) ---

    def interim(self, answer_head: head.AnswerHead) -> None:
        if self._request.head.minor == 0:
            return
        if answer_head.status == 100:
            if b"expect" in self._request.head.noted:
                self._continue()
            return
        self._request.interim(
            headers.towards_visitor(answer_head, framing=b"", identity=self._exchange.identity, date=b"", close=False)
        )

    def answer(self, answer_head: head.AnswerHead, body: bytes, complete: bool) -> None:
        self._cancel_timer()
        to, request = self._exchange, self._request
        to.status = answer_head.status
        if answer_head.status == 101:
            return self._upgrade(answer_head)
        framing = self._framing(answer_head)
        self._last = self._last or not request.keep_alive or not request.body_done
        data = headers.towards_visitor(
            answer_head, framing=framing, identity=to.identity, date=answer.date_line(), close=self._last
        )
        if body:
            data += chunked.encode([body]) if self._chunks else body
        request.send(data)
        if complete:
            self._finish()
        return None

    def answer_body(self, data: bytes) -> None:
        self._request.send(chunked.encode([data]) if self._chunks else data)

    def answer_end(self, trailers: list[bytes]) -> None:
        if self._chunks:
            self._request.send(chunked.last(trailers))
        self._finish()

    def answer_failed(self, reason: str) -> None:
        app, self._app = self._app, None
        if self._over:
            return
        if self._request.answered:
            return self._cut(reason)
        if app is not None and not app.answering and self._repeatable() and self._may_retry(app):
            self._cancel_timer()
            self._tries += 1
            self._seen = self._seen or not app.unread
            tasks.start(self._dial(), "dial again")
            return
        self._fail(502, reason)

    def _may_retry(self, app: client.AppConnection) -> bool:
        """Once over what may have been an idle connection that the app was just closing, and while nobody has read it:
        the app is ending, and the news of that is on its way."""
        return self._tries < TRIES if app.unread else app.used and not self._tries

    def app_writable(self, ready: bool) -> None:
        self._request.hold_body(not ready)
        if not ready:
            self._await_answer()
        elif not self._sent_all:
            self._cancel_timer()

    # --- answers ---

    def _framing(self, answer_head: head.AnswerHead) -> bytes:
        """The header line which delimits the body for this visitor, where the app's own does not (RFC 9112 §6.3)."""
        framing = answer_head.framing
        if framing is head.LENGTH or framing is head.NEVER:
            return b""
        if self._request.head.minor:
            self._chunks = True
            return b"\r\nTransfer-Encoding: chunked"
        self._last = True
        return b""

    def _upgrade(self, answer_head: head.AnswerHead) -> None:
        """From here on both sides talk past us (RFC 9110 §7.8)."""
        app, to, request = self._app, self._exchange, self._request
        assert app is not None
        if request.head.upgrade is None:
            return self._fail(502, "the app answered 101, but nobody asked for an upgrade")
        request.send(headers.towards_visitor(answer_head, framing=b"", identity=to.identity, date=b"", close=False))
        self._over = True
        self._cancel_timer()
        visitor, ahead = request.upgrade()
        transport, early = app.give_away()
        one: tunnel.Tunnel

        def ended(octets: int) -> None:
            request.sent += octets
            self._gateway.ended(one)
            to.tunnels(-1)
            to.end()

        one = tunnel.Tunnel(visitor, transport, ended)
        self._gateway.opened(one)
        to.tunnels(1)
        if early:
            visitor.write(early)
        if ahead:
            transport.write(ahead)

    # --- the ends ---

    def _finish(self) -> None:
        self._over = True
        self._cancel_timer()
        app, self._app = self._app, None
        request = self._request
        if app is not None:
            if self._held:
                app.hold(False)
            app.release(reuse=self._sent_all)
        request.receiver = None
        self._exchange.end()
        request.end(close=self._last)

    def _fail(self, status: int, reason: str, *, close: bool = False) -> None:
        if self._over:
            return
        self._leave()
        self._responder.refuse(self._exchange, status, reason, own=self._settings.pages, close=close)

    def _cut(self, reason: str) -> None:
        self._leave()
        self._exchange.reason = reason
        self._exchange.end()
        self._request.abort()

    def _leave(self) -> None:
        """Gives up the app's connection: the app sees it closed, and may stop working for nobody."""
        self._over = True
        self._cancel_timer()
        app, self._app = self._app, None
        self._request.receiver = None
        if app is not None:
            app.release(reuse=False)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
