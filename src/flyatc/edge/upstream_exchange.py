"""Send a request to the app: get a connection, retry if it was just closing, upload the body, enforce the timeout.

Until the response begins: its head and body are handled by ``Forward``.

Long bodies that need no processing are copied from socket to socket in the kernel (``wire.splice``).
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from flyatc.config.schema import App
from flyatc.delivery.cache.recording import Recording
from flyatc.edge import exchange, headers, upstream
from flyatc.kit import tasks
from flyatc.wire import chunked, descriptors, head, server, splice, upstream_connection

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
TRIES = 3
# An app that does not support Expect gets the body after this (RFC 9110 §10.1.1: a client may wait for ever).
CONTINUE_SECONDS = 1.0


class UpstreamExchange(exchange.Exchange, ABC):
    """Base of ``Forward``: the request's way to the app. ``_dial`` ends in ``_ask`` or ``_fail``."""

    __slots__ = ("_again", "_app", "_app_head", "_over", "_sent_all", "_settings", "_timer", "gateway")

    gateway: upstream.Gateway
    _settings: App
    _app_head: bytes
    _app: upstream_connection.AppConnection | None
    _again: Callable[[Any], None] | None  # called if the app refuses the connection; None: respond 502
    _sent_all: bool
    _timer: asyncio.TimerHandle | None
    _over: bool
    _continued = False
    _tries = 0
    _seen = False  # an app may have read the request, and even have crashed because of it

    def _repeatable(self) -> bool:
        return self.head.framing is head.NEVER and self.head.method in IDEMPOTENT

    async def _dial(self) -> None:
        if descriptors.lowest_free() >= descriptors.bounds().crowded:
            self._connection.server.make_room()
            if descriptors.lowest_free() >= descriptors.bounds().full:
                return self._fail(503, f"too many connections are open: {descriptors.ADVICE}")
        try:
            connection = await self.gateway.dial()
        except (OSError, TimeoutError) as error:
            if isinstance(error, ConnectionRefusedError) and not self._seen and not self._over and self._again:
                return self._hand_back(self._again)
            return self._fail(502, f"{self.gateway.named} does not take connections: {error or 'time-out'}")
        if self._over:
            return connection.release(reuse=False)
        if not connection.alive:
            return self._fail(502, f"{self.gateway.named} closed the connection at once")
        return self._ask(connection)

    def _ask(self, connection: upstream_connection.AppConnection) -> None:
        self._app = connection
        if self._sent_all:
            connection.ask(self, self.head.method, self._app_head)
            if self._settings.response_timeout:
                self._await_response()
            return None
        if b"expect" in self.head.noted and self.head.minor:
            self._later(CONTINUE_SECONDS, self._continue)
        connection.ask(self, self.head.method, b"")
        return self._upload(connection, self._app_head)

    def _hand_back(self, again: Callable[[Any], None]) -> None:
        """Call ``again``: the app has just exited, and its next run may serve this request."""
        self._over = True
        self.receiver = None
        again(self)

    def _may_retry(self, app: upstream_connection.AppConnection) -> bool:
        """Return whether to retry: once if the app may just have closed an idle connection; up to TRIES times if the
        app has not read the request, because it is exiting and flyatc will notice soon."""
        return self._repeatable() and (self._tries < TRIES if app.unread else app.used and not self._tries)

    def _retry(self, app: upstream_connection.AppConnection) -> None:
        self._tries += 1
        self._seen = self._seen or not app.unread
        tasks.start(self._dial(), "dial again")

    def response_failed(self, reason: str) -> None:
        app, self._app = self._app, None
        if self._over:
            return
        if self.response_started:
            return self._cut(reason)
        if app is not None and not app.responding and self._may_retry(app):
            self._cancel_timer()
            return self._retry(app)
        return self._fail(502, reason)

    # --- while it is sent ---

    def _upload(self, app: upstream_connection.AppConnection, app_head: bytes) -> None:
        """Send the head and the body; a long body of known length is spliced."""
        if not start_upload_splice(self, app, app_head, self._settings.response_timeout, self._moved):
            app.send(app_head)
            self.receive()

    def _moved(self, reason: str | None) -> None:
        """Continue after the splice of ``_upload`` has ended by itself. ``reason``: None if all is moved."""
        moving = self.moving
        assert moving is not None
        if reason is None:
            self.body_returned()
            return self.body_end([])
        self.moving = None
        if moving.fault is splice.SOURCE:
            self.gone()
            return self.abort()
        if moving.fault is splice.STALLED:
            return self._cut("the app takes no more of the request") if self.response_started else self._too_late()
        return None  # the app has closed: its connection reports its response, or the lack of one

    def _stop_upload(self) -> None:
        moving, self.moving = self.moving, None
        if moving is not None:
            moving.stop()

    def body(self, data: bytes) -> None:
        if self._app is not None:
            self._app.send(chunked.encode([data]) if self.head.framing is head.CHUNKED else data)

    def body_end(self, trailers: list[bytes]) -> None:
        self._sent_all = True
        if self._app is not None and self.head.framing is head.CHUNKED:
            self._app.send(chunked.last(trailers))
        self._await_response()

    def app_writable(self, ready: bool) -> None:
        self.hold_body(not ready)
        if not ready:
            self._await_response()
        elif not self._sent_all:
            self._cancel_timer()

    def hold(self, held: bool) -> None:
        """Apply backpressure to the app (app_delivery.Source)."""
        if self._app is not None:
            self._app.hold(held)

    def interim(self, response_head: head.ResponseHead) -> None:
        if self.head.minor == 0:
            return
        if response_head.status == 100:
            if b"expect" in self.head.noted:
                self._continue()
            return
        if b"set-cookie" in response_head.noted:  # it would be for all tenants: only the final response is rewritten
            response_head.drop(b"set-cookie")
        self.send_interim(
            headers.towards_client(response_head, framing=b"", identity=self.identity, date=b"", close=False)
        )

    def _continue(self) -> None:
        """Send 100 Continue, once: from the app, or if it has not reacted to Expect in time."""
        if not self._continued and not self._over:
            self._continued = True
            self.send_interim(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _await_response(self) -> None:
        """Start the response timeout: the app has the whole request, or accepts no more of it."""
        if self._settings.response_timeout and not self.response_started:
            self._later(self._settings.response_timeout, self._too_late)

    def _too_late(self) -> None:
        self._fail(504, f"no response within {self._settings.response_timeout:g} s")

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, what)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @abstractmethod
    def response(self, response_head: head.ResponseHead, body: bytes | memoryview, complete: bool) -> None: ...

    @abstractmethod
    def response_body(self, data: bytes | memoryview) -> None: ...

    @abstractmethod
    def response_end(self, trailers: list[bytes]) -> None: ...

    @abstractmethod
    def gone(self) -> None: ...

    @abstractmethod
    def _cut(self, reason: str) -> None: ...

    @abstractmethod
    def _fail(self, status: int, reason: str) -> None: ...


def start_upload_splice(
    request: server.Request,
    app: upstream_connection.AppConnection,
    app_head: bytes,
    patience: float,
    ended: splice.Ended,
) -> bool:
    """Send the head to the app and splice the client's body after it. ``patience``, ``ended``: as in ``Splice``.
    Return False if that is not possible, or the body is too short; then nothing was sent."""
    left, target = request.body_left, app.unwritten
    if left < splice.WORTH or target is None or not splice.POSSIBLE:
        return False
    source, early = request.lend_body()
    first = app_head + early
    try:
        request.moving = splice.Splice(
            source,
            target,
            first,
            left,
            patience=patience,
            most=request.buffers.bound,
            moved=lambda octets: None,
            ended=ended,
        )
    except OSError:  # out of descriptors; copying without splice needs none
        app.send(first)
        request.receive()
    else:
        request.moving.begin()
    return True


def can_splice_response(request: server.Request, response_head: head.ResponseHead, recording: Recording | None) -> bool:
    """Return whether the response body can be spliced: long, of known length, and not wanted by ``recording``."""
    if response_head.framing is not head.LENGTH or response_head.length < splice.WORTH or not splice.POSSIBLE:
        return False
    client = request.transport
    if client is None or client.get_write_buffer_size() or not request.body_done:
        return False
    return recording is None or not recording.listens


def prepare_response_splice(
    request: server.Request, app: upstream_connection.AppConnection, first: bytes, ended: Callable[[str | None], None]
) -> splice.Splice | None:
    """Prepare to splice the response body to the client, after ``first``. ``ended``: as in ``Splice``; it must call
    ``AppConnection.returned`` on success. None: out of descriptors; ``first`` was sent, and the body comes the ordinary
    way."""
    client = request.transport
    assert client is not None
    request.opening = first
    source, left = app.lend()
    try:
        return splice.Splice(
            source,
            client,
            first,
            left,
            patience=request.write_timeout,
            most=request.buffers.bound,
            moved=request.moved,
            ended=ended,
        )
    except OSError:
        app.hold(False)
        request.send(first)
        return None
