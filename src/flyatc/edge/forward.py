"""Proxy one request to the app and stream the response back.

Both connections call it, and it never awaits: data from each side is written to the other, with backpressure. It ends
in exactly one of: ``_finish`` (the response is complete), ``_fail`` (before its first byte: an error response),
``_cut`` (in the middle of it: the connection is cut), ``gone`` (the client disconnected). After a 101 the two
connections become a tunnel (RFC 9110 §7.8).
"""

from collections.abc import Callable

from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.compression import Plan
from flyatc.delivery.files import x_sendfile
from flyatc.edge import app_delivery, headers, responses, serve_cached, static_files, upstream, upstream_exchange
from flyatc.kit import tasks
from flyatc.wire import chunked, head, response, splice, upstream_connection
from flyatc.wire.errors import BadMessage

Again = Callable[["Forward"], None]
Examine = Callable[[head.ResponseHead], str | None]


class Forward(upstream_exchange.UpstreamExchange):
    """One proxied request: the wire.server.Receiver of the client's connection, and the ResponseReceiver of the app's
    (wire.upstream_connection)."""

    __slots__ = ("_chunks", "_compressed", "_delivery", "_examine", "_held", "_last", "_moving", "_responder")

    _delivery: app_delivery.AppDelivery
    _responder: responses.Responder
    _chunks: bool  # the response body is sent in the chunked coding
    _compressed: app_delivery.CompressedBody | None  # encodes the response body
    _moving: splice.Splice | None  # copies the response body in the kernel
    _last: bool  # the connection closes after this response (Connection: close)
    _held: bool  # the client's connection accepts no more data for now
    _examine: Examine | None

    # --- the start ---

    def forward(
        self,
        through: upstream.Gateway,
        at: app_delivery.AppDelivery,
        app_head: bytes,
        responder: responses.Responder,
        again: Again | None = None,
        examine: Examine | None = None,
    ) -> None:
        """Send the request to the app, and its response to the client.

        ``again``: called if the app refuses the connection, and so has not seen the request; None: respond 502;
        ``examine``: returns why a response must not be sent, None to send it."""
        self.gateway, self._delivery, self._settings = through, at, at.app
        self._app_head, self._responder = app_head, responder
        self._again, self._examine = again, examine
        self._over = self._chunks = self._last = self._held = False
        self._app = self._timer = self._compressed = self._moving = None
        self._sent_all = self.body_done
        self.receiver = self
        repeatable = self.head.framing is head.NEVER and self.head.method in upstream_exchange.IDEMPOTENT
        connection = through.pool.idle(repeatable=repeatable)
        if connection is None:
            tasks.start(self._dial(), "dial")
        elif repeatable and not at.app.response_timeout:
            self._app = connection
            connection.ask(self, self.head.method, app_head)
        else:
            self._ask(connection)

    # --- the client's side (wire.server.Receiver) ---

    def body_failed(self, fault: BadMessage) -> None:
        if self.response_started:
            self._cut(fault.reason)
        else:
            self._fail(fault.status, fault.reason, close=True)

    def gone(self) -> None:
        if not self._over:
            if not self.response_started:
                self.status = 499
            self.reason = "the client left"
            self._leave()
            self.end()

    def writable(self, ready: bool) -> None:
        self._held = not ready
        if self._compressed is not None:
            self._compressed.writable(ready)
        else:
            self.hold(not ready)

    # --- the app's side (wire.upstream_connection.ResponseReceiver) ---

    def response(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> None:
        if self._timer is not None:
            self._cancel_timer()
        if not self.gateway.may_answer():
            return self._fail(503, "this machine may not write the databases any more: the app's response is not sent")
        self.status, paths = response_head.status, self._delivery.paths
        if paths is not None and not paths.names.isdisjoint(response_head.noted):
            paths.apply(response_head, self.head, self.warn)  # before the cache stores it
        if self.stamp is not None and (cache := self._delivery.cache) is not None:
            self.recording = cache.passed(
                response_head, self.head, self.tenant or "", self.since, self.stamp, rfc=self._delivery.rfc
            )
        special = self.recording is not None or self._examine is not None or response_head.status == 101
        special = special or b"x-sendfile" in response_head.noted or b"x-accel-redirect" in response_head.noted
        if special and self._send_special(response_head, bytes(body), complete):
            return None
        settings = self._delivery.compression
        small = settings is None or (response_head.length < settings.min_size and response_head.status != 304)
        if not (small and response_head.framing is head.LENGTH) and self._compress(response_head, body, complete):
            return None
        if not complete and upstream_exchange.can_splice_response(self, response_head, self.recording):
            return self._splice(self._client_head(response_head) + body)
        self._send_head(response_head, body)
        if complete:
            self._finish()
        return None

    def _compress(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> bool:
        """Send the response compressed, if it is to be. Return False if its body is to be sent as it is."""
        streamed = not complete or len(body) > app_delivery.ONE_STEP_OCTETS
        plan = self._delivery.plan(self.head, response_head, streamed=streamed)
        if plan is None:
            return False
        plan.apply(response_head)
        if plan.coding is not None:
            self._encode(response_head, bytes(body), complete, plan)
        return plan.coding is not None

    def _send_special(self, response_head: head.ResponseHead, body: bytes, complete: bool) -> bool:
        """Handle an upgrade, a file named by the app, and a response for the cache. Return False if it is to be sent as
        any other."""
        if self._examine is not None and (why := self._examine(response_head)) is not None:
            self._fail(503, why)
            return True
        if response_head.status == 101:
            self._upgrade(response_head)
            return True
        file = None
        if not response_head.noted.keys().isdisjoint(x_sendfile.FROM_APPS):
            file = static_files.find(self, response_head, self._delivery)
        if self.recording is not None and self._record(self.recording, response_head, body, complete, file):
            return True
        if file is not None:
            self._done_with_app(complete)
            static_files.send_named(self, file, response_head, self._settings, self._responder)
        return file is not None

    def _splice(self, first: bytes) -> None:
        assert self._app is not None
        self._moving = upstream_exchange.prepare_response_splice(self, self._app, first, self._spliced)
        if self._moving is not None:
            self._moving.begin()

    def _spliced(self, reason: str | None) -> None:
        self._moving = None
        if reason is not None:
            return self._cut(reason)
        if self._app is not None:
            self._app.returned()
        self.recorded()
        return self._finish()

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
            self.recording = None
            self._done_with_app(complete)
            serve_cached.send(self, served, self._delivery, self._responder)
            return True
        response_head.kept.append(recording.cache_lines)
        if not recording.listens:
            self.recording = None
            return False
        if body and file is None:
            recording.body(body)
        if complete or file is not None:
            self.recorded()
        return False

    def _done_with_app(self, complete: bool) -> None:
        """Give up the app's connection, since another response is sent; keep it alive if the app's is complete."""
        if complete:
            self._let_go()
        self._leave()

    def _send_head(
        self, response_head: head.ResponseHead, body: bytes | memoryview, framing: bytes | None = None
    ) -> None:
        """Send the head and ``body``, the part of the body so far. ``framing``: from ``_framing``."""
        ordinary = response_head.framing is head.LENGTH and response_head.dated and 200 <= response_head.status < 400
        stays = self.head.keep_alive and not self._connection.server.closing and self.body_done and not self._last
        if ordinary and framing is None and stays:
            block = b"".join(response_head.kept)  # what ``_client_head`` makes, in one format
            apart = len(body) > upstream_connection.VIEWED
            data = headers.ORDINARY % (
                self.status, response_head.reason, block, self.identity, b"" if apart else body
            )  # fmt: skip
            if apart:
                return self.send_with(data, body)
            self.response_started, self.opening, self.sent = True, data, len(data)  # ``send``, without its call
            self.head_octets = len(data) - len(body)
            if (transport := self._connection.transport) is not None:
                transport.write(data)
            return None
        data = self._client_head(response_head, framing)
        if body:
            data += chunked.encode([bytes(body)]) if self._chunks else body
        return self.send(data)

    def _client_head(self, response_head: head.ResponseHead, framing: bytes | None = None) -> bytes:
        if framing is None:
            framing = self._framing(response_head.framing)
        self._last = self._last or not self.keep_alive or not self.body_done
        return headers.towards_client(
            response_head, framing=framing, identity=self.identity, date=response.date_line(), close=self._last
        )

    def _encode(self, response_head: head.ResponseHead, body: bytes, complete: bool, plan: Plan) -> None:
        if self.head.method == b"HEAD":
            self._send_head(response_head, b"", b"")
            return self._finish()
        if complete and len(body) <= app_delivery.ONE_STEP_OCTETS:
            made = self._delivery.whole(plan, body)
            self._send_head(response_head, made, b"\r\nContent-Length: %d" % len(made))
            return self._finish()
        self._send_head(response_head, b"", self._framing(head.CHUNKED))
        encoder = self._delivery.stream(plan)
        self._compressed = app_delivery.CompressedBody(
            self, self, self._delivery.encoders, encoder, chunks=self._chunks, trailers=plan.trailers, done=self._finish
        )
        if self._held:
            self._compressed.writable(False)
        if body:
            self._compressed.body(body)
        if complete:
            self.response_end([])
        return None

    def response_body(self, data: bytes | memoryview) -> None:
        if isinstance(data, memoryview):
            if self.recording is None and self._compressed is None and self.response_started:
                return self.send_view(data)
            data = bytes(data)
        if self.recording is not None:
            self.recording.body(data)
        if self._compressed is not None:
            return self._compressed.body(data)
        return self.send(chunked.encode([data]) if self._chunks else data)

    def response_end(self, trailers: list[bytes]) -> None:
        self.recorded()
        if self._compressed is not None:
            self._let_go()  # from now on the app's connection is independent of this request
            return self._compressed.end(trailers)
        if self._chunks:
            self.send(chunked.last(trailers))
        return self._finish()

    # --- responses ---

    def _framing(self, framing: str) -> bytes:
        """Return the header line that delimits the body for this client; empty if the app's own does, or the close
        of the connection (RFC 9112 §6.3)."""
        if framing is head.LENGTH or framing is head.NEVER:
            return b""
        if self.head.minor:
            self._chunks = True
            return b"\r\nTransfer-Encoding: chunked"
        self._last = True
        return b""

    def _upgrade(self, response_head: head.ResponseHead) -> None:
        app = self._app
        assert app is not None
        if self.head.upgrade is None:
            return self._fail(502, "the app responded 101, but the request asked for no upgrade")
        self.send(headers.towards_client(response_head, framing=b"", identity=self.identity, date=b"", close=False))
        self._over = True
        self._cancel_timer()
        self.gateway.join(self, app)

    # --- the ends ---

    def _finish(self) -> None:
        self._over = True
        if self._timer is not None:
            self._cancel_timer()
        if self.moving is not None:
            self._stop_upload()
        if self._held or self._compressed is not None or self._app is None:
            self._let_go()
        else:
            app, self._app = self._app, None
            app.release(reuse=self._sent_all)
        self.receiver = None
        self.end()
        connection = self._connection
        connection.finished(self._last or not self.head.keep_alive or connection.server.closing)

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
        if status >= 500 and (served := self.not_recorded()) is not None:
            return serve_cached.send(self, served, self._delivery, self._responder)
        self._responder.refuse(self, status, reason, own=self._settings.pages, close=close)

    def _cut(self, reason: str) -> None:
        self._leave()
        self.not_recorded()
        self.reason = reason
        self.end()
        self.abort()

    def _leave(self) -> None:
        """Close the app's connection: the app can see that, and stop work on a response that is no longer needed."""
        self._over = True
        self._cancel_timer()
        self._stop_upload()
        app, self._app = self._app, None
        self.receiver = None
        if self._compressed is not None:
            self._compressed.close()
        if self._moving is not None:
            self._moving.stop()
            self._moving = None
        if app is not None:
            app.release(reuse=False)
