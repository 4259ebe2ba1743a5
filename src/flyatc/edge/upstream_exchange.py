"""How a request comes to the app: a connection, another one where the first was just closing, and its body.

Long bodies that nobody here has to look at: from one socket to the other, in the kernel.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from flyatc.config.schema import App
from flyatc.delivery.cache.recording import Recording
from flyatc.edge import upstream
from flyatc.kit import tasks
from flyatc.wire import chunked, head, server, splice, upstream_connection

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
TRIES = 3
# An app which does not know Expect gets its body after this (RFC 9110 §10.1.1: a client may wait for ever).
CONTINUE_SECONDS = 1.0


class UpstreamExchange(ABC):
    """Ends in ``_ask``, or ``_fail``. ``again``: what to do where the app takes no connection, and so has not seen the
    request; None: 502."""

    __slots__ = (
        "_again", "_app", "_continued", "_gateway", "_over", "_request", "_seen", "_sent_all", "_settings", "_timer",
        "_tries",
    )  # fmt: skip

    def __init__(
        self, request: server.Request, through: upstream.Gateway, settings: App, again: Callable[[], None] | None
    ) -> None:
        self._request, self._gateway, self._settings, self._again = request, through, settings, again
        self._app: upstream_connection.AppConnection | None = None
        self._sent_all = request.body_done
        self._continued = False
        self._timer: asyncio.TimerHandle | None = None
        self._tries = 0
        self._seen = False  # an app may have read the request, and even have died of it
        self._over = False

    def _reach(self) -> None:
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
            return self._fail(502, f"{self._gateway.named} does not take connections: {error or 'time-out'}")
        if self._over:
            return connection.release(reuse=False)
        if not connection.alive:
            return self._fail(502, f"{self._gateway.named} closed the connection at once")
        return self._ask(connection)

    def _hand_back(self, again: Callable[[], None]) -> None:
        """Nobody listens any more: the app has just died, and the next one may serve this request."""
        self._over = True
        self._request.receiver = None
        again()

    def _may_retry(self, app: upstream_connection.AppConnection) -> bool:
        """Once over what may have been an idle connection that the app was just closing, and while nobody has read it:
        the app is ending, and the news of that is on its way."""
        return self._repeatable() and (self._tries < TRIES if app.unread else app.used and not self._tries)

    def _retry(self, app: upstream_connection.AppConnection) -> None:
        self._tries += 1
        self._seen = self._seen or not app.unread
        tasks.start(self._dial(), "dial again")

    # --- while it is sent ---

    def _upload(self, app: upstream_connection.AppConnection, app_head: bytes) -> None:
        """A long body goes past us, where its end is known."""
        request, settings = self._request, self._settings
        if not start_upload(request, app, app_head, settings.response_timeout, self._moved):
            app.send(app_head)
            request.receive()

    def _moved(self, reason: str | None) -> None:
        """``_upload`` has ended; nobody else has ended it."""
        request = self._request
        moving = request.moving
        assert moving is not None
        if reason is None:
            request.body_returned()
            return self.body_end([])
        request.moving = None
        if moving.fault is splice.SOURCE:
            self.gone()
            return request.abort()
        if moving.fault is splice.STALLED:
            return self._cut("the app takes no more of the request") if request.answered else self._too_late()
        return None  # the app has closed: what it had said, or that it said nothing, comes by its own connection

    def _stop_upload(self) -> None:
        moving, self._request.moving = self._request.moving, None
        if moving is not None:
            moving.stop()

    def body(self, data: bytes) -> None:
        if self._app is not None:
            self._app.send(chunked.encode([data]) if self._request.head.framing is head.CHUNKED else data)

    def body_end(self, trailers: list[bytes]) -> None:
        self._sent_all = True
        if self._app is not None and self._request.head.framing is head.CHUNKED:
            self._app.send(chunked.last(trailers))
        self._await_answer()

    def app_writable(self, ready: bool) -> None:
        self._request.hold_body(not ready)
        if not ready:
            self._await_answer()
        elif not self._sent_all:
            self._cancel_timer()

    def hold(self, held: bool) -> None:
        """Backpressure towards the app (outlet.Source)."""
        if self._app is not None:
            self._app.hold(held)

    def _continue(self) -> None:
        """The app has said nothing to Expect: the visitor may send."""
        if not self._continued and not self._over:
            self._continued = True
            self._request.interim(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _await_answer(self) -> None:
        """From now on it is the app's turn: it has the whole request, or takes no more of it."""
        if self._settings.response_timeout and not self._request.answered:
            self._later(self._settings.response_timeout, self._too_late)

    def _too_late(self) -> None:
        self._fail(504, f"no answer within {self._settings.response_timeout:g} s")

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, what)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @abstractmethod
    def _ask(self, connection: upstream_connection.AppConnection) -> None: ...

    @abstractmethod
    def gone(self) -> None: ...

    @abstractmethod
    def _cut(self, reason: str) -> None: ...

    @abstractmethod
    def _fail(self, status: int, reason: str) -> None: ...


def start_upload(
    request: server.Request,
    app: upstream_connection.AppConnection,
    app_head: bytes,
    patience: float,
    ended: splice.Ended,
) -> bool:
    """The head goes to the app, and behind it the visitor's body; ``patience``, ``ended``: as a ``Splice``'s. False: it
    is not worth it, or not possible, and nothing was sent."""
    left, target = request.body_left, app.unwritten
    if left < splice.WORTH or target is None or not splice.POSSIBLE:
        return False
    source, early = request.lend_body()
    first = app_head + early
    try:
        request.moving = splice.Splice(
            source, target, first, left, patience=patience, moved=lambda octets: None, ended=ended
        )
    except OSError:  # out of descriptors; the ordinary way needs none
        app.send(first)
        request.receive()
    else:
        request.moving.begin()
    return True


def possible(request: server.Request, answer_head: head.ResponseHead, recording: Recording | None) -> bool:
    """``recording``: None, or whether it listens decides."""
    if answer_head.framing is not head.LENGTH or answer_head.length < splice.WORTH or not splice.POSSIBLE:
        return False
    visitor = request.transport
    if visitor is None or visitor.get_write_buffer_size() or not request.body_done:
        return False
    return recording is None or not recording.listens


def prepare(
    request: server.Request, app: upstream_connection.AppConnection, first: bytes, ended: Callable[[str | None], None]
) -> splice.Splice | None:
    """``first`` goes before; ``ended``: as a ``Splice``'s, then ``AppConnection.returned``. None: out of descriptors;
    the ordinary way needs none, and ``first`` is on it."""
    visitor = request.transport
    assert visitor is not None
    request.opening = first
    source, left = app.lend()
    try:
        return splice.Splice(
            source, visitor, first, left, patience=request.write_timeout, moved=request.moved, ended=ended
        )
    except OSError:
        app.hold(False)
        request.send(first)
        return None
