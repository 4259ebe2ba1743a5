"""Proxy one request to the app and stream the response back.

Both connections call it, and it never awaits: data from each side is written to the other, with backpressure. It ends
in exactly one of: ``_finish`` (the response is complete), ``_fail`` (before its first byte: an error response),
``_cut`` (in the middle of it: the connection is cut), ``gone`` (the client disconnected). After a 101 the two
connections become a tunnel (RFC 9110 §7.8).
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
    """One proxied request: the wire.server.Receiver of the client's connection, and the ResponseReceiver of the app's
    (wire.upstream_connection)."""

    __slots__ = ("_chunks", "_compressed", "_delivery", "_exchange", "_head", "_held", "_last", "_moving", "_responder")

    def __init__(
        self,
        to: exchange.Exchange,
        through: upstream.Gateway,
        at: app_delivery.AppDelivery,
        app_head: bytes,
        responder: responses.Responder,
        again: Callable[[], None] | None = None,
    ) -> None:
        """``again``: called if the app refuses the connection, and so has not seen the request; None: respond 502."""
        super().__init__(to.request, through, at.app, again)
        self._exchange = to
        self._delivery, self._head, self._responder = at, app_head, responder
        self._chunks = False  # the response body is sent in the chunked coding
        self._compressed: app_delivery.CompressedBody | None = None  # encodes the response body
        self._moving: splice.Splice | None = None  # copies the response body in the kernel
        self._last = False  # the connection closes after this response (Connection: close)
        self._held = False  # the client's connection accepts no more data for now

    # --- the start ---

    def begin(self) -> None:
        self._request.receiver = self
        self._reach()

    def _ask(self, connection: upstream_connection.AppConnection) -> None:
        self._app = connection
        if self._sent_all:
            connection.ask(self, self._request.head.method, self._head)
            return self._await_response()
        if b"expect" in self._request.head.noted and self._request.head.minor:
            self._later(upstream_exchange.CONTINUE_SECONDS, self._continue)
        connection.ask(self, self._request.head.method, b"")
        return self._upload(connection, self._head)

    # --- the client's side (wire.server.Receiver) ---

    def body_failed(self, fault: BadMessage) -> None:
        if self._request.response_started:
            self._cut(fault.reason)
        else:
            self._fail(fault.status, fault.reason, close=True)

    def gone(self) -> None:
        if not self._over:
            if not self._request.response_started:
                self._exchange.status = 499
            self._exchange.reason = "the client left"
            self._leave()
            self._exchange.end()

    def writable(self, ready: bool) -> None:
        self._held = not ready
        if self._compressed is not None:
            self._compressed.writable(ready)
        else:
            self.hold(not ready)

    # --- the app's side (wire.upstream_connection.ResponseReceiver) ---

    def interim(self, response_head: head.ResponseHead) -> None:
        if self._request.head.minor == 0:
            return
        if response_head.status == 100:
            if b"expect" in self._request.head.noted:
                self._continue()
            return
        self._request.interim(
            headers.towards_client(response_head, framing=b"", identity=self._exchange.identity, date=b"", close=False)
        )

    def response(self, response_head: head.ResponseHead, body: bytes, complete: bool) -> None:
        self._cancel_timer()
        to, request = self._exchange, self._request
        if not self._gateway.may_answer():
            return self._fail(503, "this machine may not write the databases any more: the app's response is not sent")
        to.status, paths = response_head.status, self._delivery.paths
        if paths is not None and not paths.names.isdisjoint(response_head.noted):
            paths.apply(response_head, request.head, to.warn)  # before the cache stores it
        if response_head.status == 101:
            return self._upgrade(response_head)
        file = None if response_head.noted.keys().isdisjoint(x_sendfile.FROM_APPS) else self._file(response_head)
        if to.recording is not None and self._record(to.recording, response_head, body, complete, file):
            return None
        if file is not None:
            return self._send_file(response_head, file, complete)
        settings = self._delivery.compression
        if settings is not None and (plan := compression.wanted(request.head, response_head, settings)) is not None:
            plan.apply(response_head)
            if plan.coding is not None:
                return self._encode(response_head, body, complete, plan)
        if not complete and upstream_exchange.can_splice_response(request, response_head, to.recording):
            return self._splice(self._client_head(response_head) + body)
        self._send_head(response_head, body)
        if complete:
            self._finish()
        return None

    def _splice(self, first: bytes) -> None:
        assert self._app is not None
        self._moving = upstream_exchange.prepare_response_splice(self._request, self._app, first, self._spliced)
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

    def _file(self, response_head: head.ResponseHead) -> static_files.Named | None:
        """Return the file that the app names in X-Sendfile in place of its body, None if there is none."""
        if self._delivery.sendfile is not None:
            return self._delivery.sendfile.find(response_head)
        self._exchange.not_recorded()  # the body is empty: it must not be cached in case sendfile is enabled later
        return None

    def _record(
        self,
        recording: Recording,
        response_head: head.ResponseHead,
        body: bytes,
        complete: bool,
        file: static_files.Named | None,
    ) -> bool:
        """Pass the response to the cache. Return whether a stored response was sent instead of the app's."""
        served = static_files.record(recording, response_head, file)
        if served is not None:
            self._exchange.recording = None
            self._done_with_app(complete)
            caching.send(self._exchange, served, self._delivery, self._responder)
            return True
        response_head.kept.append(recording.cache_lines)
        if not recording.listens:
            self._exchange.recording = None
            return False
        if body and file is None:
            recording.body(body)
        if complete or file is not None:
            self._exchange.recorded()
        return False

    def _send_file(self, response_head: head.ResponseHead, file: static_files.Named, complete: bool) -> None:
        """Send the file in place of the app's body."""
        self._done_with_app(complete)
        to, asked = self._exchange, self._request.head
        outcome = file if isinstance(file, FileRefused) else x_sendfile.build(file, asked, response_head, now=time())
        reason = response_head.reason if outcome.status == response_head.status else None
        static_files.send(to, outcome, self._settings, self._responder, reason=reason, dated=response_head.dated)

    def _done_with_app(self, complete: bool) -> None:
        """Give up the app's connection, since another response is sent; keep it alive if the app's is complete."""
        if complete:
            self._let_go()
        self._leave()

    def _send_head(self, response_head: head.ResponseHead, body: bytes, framing: bytes | None = None) -> None:
        """Send the head and ``body``, the part of the body so far. ``framing``: from ``_framing``."""
        data = self._client_head(response_head, framing)
        if body:
            data += chunked.encode([body]) if self._chunks else body
        self._request.send(data)

    def _client_head(self, response_head: head.ResponseHead, framing: bytes | None = None) -> bytes:
        to, request = self._exchange, self._request
        if framing is None:
            framing = self._framing(response_head.framing)
        self._last = self._last or not request.keep_alive or not request.body_done
        return headers.towards_client(
            response_head, framing=framing, identity=to.identity, date=response.date_line(), close=self._last
        )

    def _encode(self, response_head: head.ResponseHead, body: bytes, complete: bool, plan: compression.Plan) -> None:
        if self._request.head.method == b"HEAD":
            self._send_head(response_head, b"", b"")
            return self._finish()
        if complete and len(body) <= app_delivery.ONE_STEP_OCTETS:
            made = self._delivery.whole(plan, body)
            self._send_head(response_head, made, b"\r\nContent-Length: %d" % len(made))
            return self._finish()
        self._send_head(response_head, b"", self._framing(head.CHUNKED))
        encoder = self._delivery.stream(plan)
        self._compressed = app_delivery.CompressedBody(
            self._request, self, encoder, chunks=self._chunks, trailers=plan.trailers, done=self._finish
        )
        if self._held:
            self._compressed.writable(False)
        if body:
            self._compressed.body(body)
        if complete:
            self.response_end([])
        return None

    def response_body(self, data: bytes) -> None:
        if self._exchange.recording is not None:
            self._exchange.recording.body(data)
        if self._compressed is not None:
            return self._compressed.body(data)
        return self._request.send(chunked.encode([data]) if self._chunks else data)

    def response_end(self, trailers: list[bytes]) -> None:
        self._exchange.recorded()
        if self._compressed is not None:
            self._let_go()  # from now on the app's connection is independent of this request
            return self._compressed.end(trailers)
        if self._chunks:
            self._request.send(chunked.last(trailers))
        return self._finish()

    def response_failed(self, reason: str) -> None:
        app, self._app = self._app, None
        if self._over:
            return
        if self._request.response_started:
            return self._cut(reason)
        if app is not None and not app.responding and self._may_retry(app):
            self._cancel_timer()
            return self._retry(app)
        return self._fail(502, reason)

    # --- responses ---

    def _framing(self, framing: str) -> bytes:
        """Return the header line that delimits the body for this client; empty if the app's own does, or the close
        of the connection (RFC 9112 §6.3)."""
        if framing is head.LENGTH or framing is head.NEVER:
            return b""
        if self._request.head.minor:
            self._chunks = True
            return b"\r\nTransfer-Encoding: chunked"
        self._last = True
        return b""

    def _upgrade(self, response_head: head.ResponseHead) -> None:
        app, to, request = self._app, self._exchange, self._request
        assert app is not None
        if request.head.upgrade is None:
            return self._fail(502, "the app responded 101, but the request asked for no upgrade")
        request.send(headers.towards_client(response_head, framing=b"", identity=to.identity, date=b"", close=False))
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
        """Release the app's connection: its response is complete."""
        app, self._app = self._app, None
        if app is not None:
            if self._held or self._compressed is not None:
                app.hold(False)
            app.release(reuse=self._sent_all)

    def _fail(self, status: int, reason: str, *, close: bool = False) -> None:
        if self._over:
            return
        self._leave()
        if status >= 500 and (served := self._exchange.not_recorded()) is not None:
            return caching.send(self._exchange, served, self._delivery, self._responder)
        self._responder.refuse(self._exchange, status, reason, own=self._settings.pages, close=close)

    def _cut(self, reason: str) -> None:
        self._leave()
        self._exchange.not_recorded()
        self._exchange.reason = reason
        self._exchange.end()
        self._request.abort()

    def _leave(self) -> None:
        """Close the app's connection: the app can see that, and stop work on a response that is no longer needed."""
        self._over = True
        self._cancel_timer()
        self._stop_upload()
        app, self._app = self._app, None
        self._request.receiver = None
        if self._compressed is not None:
            self._compressed.close()
        if self._moving is not None:
            self._moving.stop()
            self._moving = None
        if app is not None:
            app.release(reuse=False)


def join(to: exchange.Exchange, app: upstream_connection.AppConnection, through: upstream.Gateway) -> None:
    """Relay both connections to each other, after the 101 was sent. ``to`` ends with the tunnel."""
    request = to.request
    client, ahead = request.upgrade()
    transport, early = app.give_away()
    one: tunnel.Tunnel

    def ended(octets: int) -> None:
        request.sent += octets
        through.ended(one)
        to.tunnels(-1)
        to.end()

    one = tunnel.Tunnel(client, transport, ended)
    through.opened(one)
    to.tunnels(1)
    if early:
        client.write(early)
    if ahead:
        transport.write(ahead)
