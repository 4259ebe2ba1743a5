"""One request on its way to the app, and the answer on its way back.

Called by both connections, never awaiting: what the visitor sends goes to the app, what the app sends goes to the
visitor, and whoever is slow holds up the other. It ends in exactly one of: ``_finish`` (the answer is complete),
``_fail`` (before its first byte: an answer of our own), ``_cut`` (amid it: the connection is cut), ``gone`` (the
visitor has left).

A request that becomes a tunnel (RFC 9110 §7.8).
"""

from collections.abc import Callable
from time import time

from flyatc.delivery import compression
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.files import x_sendfile
from flyatc.delivery.files.file_response import FileRefused
from flyatc.edge import app_delivery, caching, exchange, headers, responses, static_files, upstream, upstream_exchange
from flyatc.wire import chunked, head, response, splice, tunnel, upstream_connection
from flyatc.wire.errors import BadMessage


class Forward(upstream_exchange.UpstreamExchange):
    """``receive``s the visitor's request (wire.server.Receiver) and is the app's asker (wire.client.Client)."""

    __slots__ = ("_chunks", "_desk", "_exchange", "_head", "_held", "_last", "_moving", "_outlet", "_responder")

    def __init__(
        self,
        to: exchange.Exchange,
        through: upstream.Gateway,
        at: app_delivery.AppDelivery,
        app_head: bytes,
        responder: responses.Responder,
        again: Callable[[], None] | None = None,
    ) -> None:
        """``again``: what to do where the app takes no connection, and so has not seen the request; None: 502."""
        super().__init__(to.request, through, at.app, again)
        self._exchange = to
        self._desk, self._head, self._responder = at, app_head, responder
        self._chunks = False  # the answer's body goes out in chunks of ours
        self._outlet: app_delivery.Outlet | None = None  # it goes out encoded
        self._moving: splice.Splice | None = None  # it goes past us
        self._last = False  # the connection ends with this answer, and the visitor was told so
        self._held = False  # the visitor takes no more for now

    # --- the start ---

    def begin(self) -> None:
        self._request.receiver = self
        self._reach()

    def _ask(self, connection: upstream_connection.AppConnection) -> None:
        self._app = connection
        if self._sent_all:
            connection.ask(self, self._request.head.method, self._head)
            return self._await_answer()
        if b"expect" in self._request.head.noted and self._request.head.minor:
            self._later(upstream_exchange.CONTINUE_SECONDS, self._continue)
        connection.ask(self, self._request.head.method, b"")
        return self._upload(connection, self._head)

    # --- the visitor's side (wire.server.Receiver) ---

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
        if self._outlet is not None:
            self._outlet.writable(ready)
        else:
            self.hold(not ready)

    # --- the app's side (wire.client.Client) ---

    def interim(self, answer_head: head.ResponseHead) -> None:
        if self._request.head.minor == 0:
            return
        if answer_head.status == 100:
            if b"expect" in self._request.head.noted:
                self._continue()
            return
        self._request.interim(
            headers.towards_client(answer_head, framing=b"", identity=self._exchange.identity, date=b"", close=False)
        )

    def answer(self, answer_head: head.ResponseHead, body: bytes, complete: bool) -> None:
        self._cancel_timer()
        to, request = self._exchange, self._request
        if not self._gateway.may_answer():
            return self._fail(503, "this machine may not write the databases any more: the app's answer is not given")
        to.status = answer_head.status
        if answer_head.status == 101:
            return self._upgrade(answer_head)
        file = None if answer_head.noted.keys().isdisjoint(x_sendfile.FROM_APPS) else self._file(answer_head)
        if to.recording is not None and self._record(to.recording, answer_head, body, complete, file):
            return None
        if file is not None:
            return self._send_file(answer_head, file, complete)
        settings = self._desk.compression
        if settings is not None and (plan := compression.wanted(request.head, answer_head, settings)) is not None:
            plan.apply(answer_head)
            if plan.coding is not None:
                return self._encode(answer_head, body, complete, plan)
        if not complete and upstream_exchange.possible(request, answer_head, to.recording):
            return self._splice(self._client_head(answer_head) + body)
        self._send_head(answer_head, body)
        if complete:
            self._finish()
        return None

    def _splice(self, first: bytes) -> None:
        assert self._app is not None
        self._moving = upstream_exchange.prepare(self._request, self._app, first, self._spliced)
        if self._moving is not None:
            self._moving.begin()

    def _spliced(self, reason: str | None) -> None:
        self._moving = None
        if reason is not None:
            return self._cut(reason)
        if self._app is not None:
            self._app.returned()
        self._exchange.recorded()
        return self._finish()

    def _file(self, answer_head: head.ResponseHead) -> static_files.Named | None:
        """What the app names instead of its body."""
        if self._desk.sendfile is not None:
            return self._desk.sendfile.find(answer_head)
        self._exchange.not_recorded()  # its body is empty: nobody else need get that, should it be switched on
        return None

    def _record(
        self,
        recording: Recording,
        answer_head: head.ResponseHead,
        body: bytes,
        complete: bool,
        file: static_files.Named | None,
    ) -> bool:
        """Whether something else was sent than the app's answer."""
        served = static_files.record(recording, answer_head, file)
        if served is not None:
            self._exchange.recording = None
            self._done_with_app(complete)
            caching.send(self._exchange, served, self._desk, self._responder)
            return True
        answer_head.kept.append(recording.cache_lines)
        if not recording.listens:
            self._exchange.recording = None
            return False
        if body and file is None:
            recording.body(body)
        if complete or file is not None:
            self._exchange.recorded()
        return False

    def _send_file(self, answer_head: head.ResponseHead, file: static_files.Named, complete: bool) -> None:
        """In place of the app's body."""
        self._done_with_app(complete)
        to, asked = self._exchange, self._request.head
        outcome = file if isinstance(file, FileRefused) else x_sendfile.build(file, asked, answer_head, now=time())
        reason = answer_head.reason if outcome.status == answer_head.status else None
        static_files.send(to, outcome, self._settings, self._responder, reason=reason, dated=answer_head.dated)

    def _done_with_app(self, complete: bool) -> None:
        """Something else is sent than the app's answer; what of it is still to come is not taken."""
        if complete:
            self._let_go()
        self._leave()

    def _send_head(self, answer_head: head.ResponseHead, body: bytes, framing: bytes | None = None) -> None:
        """``framing``: as ``_framing`` gives it; ``body``: what has come of it."""
        data = self._client_head(answer_head, framing)
        if body:
            data += chunked.encode([body]) if self._chunks else body
        self._request.send(data)

    def _client_head(self, answer_head: head.ResponseHead, framing: bytes | None = None) -> bytes:
        to, request = self._exchange, self._request
        if framing is None:
            framing = self._framing(answer_head.framing)
        self._last = self._last or not request.keep_alive or not request.body_done
        return headers.towards_client(
            answer_head, framing=framing, identity=to.identity, date=response.date_line(), close=self._last
        )

    def _encode(self, answer_head: head.ResponseHead, body: bytes, complete: bool, plan: compression.Plan) -> None:
        if self._request.head.method == b"HEAD":
            self._send_head(answer_head, b"", b"")
            return self._finish()
        if complete and len(body) <= app_delivery.WHOLE:
            made = self._desk.whole(plan, body)
            self._send_head(answer_head, made, b"\r\nContent-Length: %d" % len(made))
            return self._finish()
        self._send_head(answer_head, b"", self._framing(head.CHUNKED))
        encoder = self._desk.stream(plan)
        self._outlet = app_delivery.Outlet(
            self._request, self, encoder, chunks=self._chunks, trailers=plan.trailers, done=self._finish
        )
        if self._held:
            self._outlet.writable(False)
        if body:
            self._outlet.body(body)
        if complete:
            self.answer_end([])
        return None

    def answer_body(self, data: bytes) -> None:
        if self._exchange.recording is not None:
            self._exchange.recording.body(data)
        if self._outlet is not None:
            return self._outlet.body(data)
        return self._request.send(chunked.encode([data]) if self._chunks else data)

    def answer_end(self, trailers: list[bytes]) -> None:
        self._exchange.recorded()
        if self._outlet is not None:
            self._let_go()  # what it closes, or says, from now on is nothing of ours
            return self._outlet.end(trailers)
        if self._chunks:
            self._request.send(chunked.last(trailers))
        return self._finish()

    def answer_failed(self, reason: str) -> None:
        app, self._app = self._app, None
        if self._over:
            return
        if self._request.answered:
            return self._cut(reason)
        if app is not None and not app.answering and self._may_retry(app):
            self._cancel_timer()
            return self._retry(app)
        return self._fail(502, reason)

    # --- answers ---

    def _framing(self, framing: str) -> bytes:
        """The header line which delimits the body for this visitor, where the app's own does not (RFC 9112 §6.3)."""
        if framing is head.LENGTH or framing is head.NEVER:
            return b""
        if self._request.head.minor:
            self._chunks = True
            return b"\r\nTransfer-Encoding: chunked"
        self._last = True
        return b""

    def _upgrade(self, answer_head: head.ResponseHead) -> None:
        app, to, request = self._app, self._exchange, self._request
        assert app is not None
        if request.head.upgrade is None:
            return self._fail(502, "the app answered 101, but nobody asked for an upgrade")
        request.send(headers.towards_client(answer_head, framing=b"", identity=to.identity, date=b"", close=False))
        self._over = True
        self._cancel_timer()
        join(to, app, self._gateway)

    # --- the ends ---

    def _finish(self) -> None:
        self._over = True
        self._cancel_timer()
        self._stop_upload()
        self._let_go()
        self._request.receiver = None
        self._exchange.end()
        self._request.end(close=self._last)

    def _let_go(self) -> None:
        """The app has said all."""
        app, self._app = self._app, None
        if app is not None:
            if self._held or self._outlet is not None:
                app.hold(False)
            app.release(reuse=self._sent_all)

    def _fail(self, status: int, reason: str, *, close: bool = False) -> None:
        if self._over:
            return
        self._leave()
        if status >= 500 and (served := self._exchange.not_recorded()) is not None:
            return caching.send(self._exchange, served, self._desk, self._responder)
        self._responder.refuse(self._exchange, status, reason, own=self._settings.pages, close=close)

    def _cut(self, reason: str) -> None:
        self._leave()
        self._exchange.not_recorded()
        self._exchange.reason = reason
        self._exchange.end()
        self._request.abort()

    def _leave(self) -> None:
        """Gives up the app's connection: the app sees it closed, and may stop working for nobody."""
        self._over = True
        self._cancel_timer()
        self._stop_upload()
        app, self._app = self._app, None
        self._request.receiver = None
        if self._outlet is not None:
            self._outlet.close()
        if self._moving is not None:
            self._moving.stop()
            self._moving = None
        if app is not None:
            app.release(reuse=False)


def join(to: exchange.Exchange, app: upstream_connection.AppConnection, through: upstream.Gateway) -> None:
    """The answer of 101 is sent: from here on both sides talk past us. ``to`` ends with the tunnel."""
    request = to.request
    visitor, ahead = request.upgrade()
    transport, early = app.give_away()
    one: tunnel.Tunnel

    def ended(octets: int) -> None:
        request.sent += octets
        through.ended(one)
        to.tunnels(-1)
        to.end()

    one = tunnel.Tunnel(visitor, transport, ended)
    through.opened(one)
    to.tunnels(1)
    if early:
        visitor.write(early)
    if ahead:
        transport.write(ahead)
