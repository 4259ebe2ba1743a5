"""The context of one request, filled in along its path and logged once at the end.

Also the base class of requests that wait before their body is read, and the request head sent to an app.
"""

from collections.abc import Callable
from copy import copy
from time import monotonic, time
from typing import Protocol

from flyatc.config.schema import App
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit
from flyatc.delivery.files import x_sendfile
from flyatc.edge import headers
from flyatc.observe.counters import Counters
from flyatc.routing.request_signature import ForwardedRequest
from flyatc.wire import server
from flyatc.wire.errors import BadMessage


class ExchangeRecorder(Protocol):
    """Counts and logs finished requests."""

    counters: Counters

    def write(self, exchange: "Exchange") -> None: ...

    def warn(self, exchange: "Exchange", reason: str) -> None: ...


class Exchange:
    """One request, from its head to the last byte of its response."""

    __slots__ = (
        "_ended", "_recorder", "began", "cache", "forwarded", "forwarded_to", "identity", "on_end", "reason",
        "recording", "remote", "request", "silent", "start", "status", "tenant", "user", "wait",
    )  # fmt: skip

    def __init__(self, recorder: ExchangeRecorder, request: server.Request, identity: bytes, remote: str) -> None:
        self._recorder, self._ended = recorder, False
        self.request, self.identity, self.remote = request, identity, remote
        self.began = monotonic()
        self.user: str | None = None
        self.tenant: str | None = None
        self.status = 0
        self.start: str | None = None
        self.wait: float | None = None
        self.reason: str | None = None
        self.cache: str | None = None  # the value of X-Cache: hit, miss, bypass
        self.forwarded: ForwardedRequest | None = None  # its verified signature, if another machine forwarded it here
        self.forwarded_to: str | None = None  # for the log: the machine it was forwarded to, and why
        self.silent = False
        self.on_end: Callable[[], None] | None = None
        self.recording: Recording | None = None  # receives the app's response, for the cache
        recorder.counters.in_flight += 1

    def warn(self, reason: str) -> None:
        """Log a warning about this request."""
        self._recorder.warn(self, reason)

    def tunnels(self, more: int) -> None:
        """Add ``more`` (1 or -1) to the count of open tunnels."""
        self._recorder.counters.tunnels += more

    def recorded(self) -> None:
        """End the recording: the app's response is complete."""
        recording, self.recording = self.recording, None
        if recording is not None:
            recording.end()

    def not_recorded(self) -> CacheHit | None:
        """End the recording without a usable response. Return a stored response that may be sent instead, if any."""
        recording, self.recording = self.recording, None
        return None if recording is None else recording.fail(time())

    def sent_on(self) -> None:
        """End the recording: another machine will respond."""
        recording, self.recording = self.recording, None
        if recording is not None:
            recording.sent_on()

    def end(self) -> None:
        """End the request: release the app and write the log line. Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        if self.forwarded_to is not None:
            self.reason = self.forwarded_to if self.reason is None else f"{self.forwarded_to}; {self.reason}"
        if self.recording is not None:
            if self.status >= 500:
                self.not_recorded()
            else:
                self.recording.gone()
        if self.on_end is not None:
            self.on_end()
        self._recorder.write(self)


class WaitingReceiver:
    """Base of wire.server.Receiver classes that wait: they never call ``Request.receive``, so no body arrives."""

    __slots__ = ()

    def body(self, data: bytes) -> None:
        raise AssertionError("the body was not requested")

    def body_end(self, trailers: list[bytes]) -> None:
        raise AssertionError("the body was not requested")

    def body_failed(self, fault: BadMessage) -> None:
        raise AssertionError("the body was not requested")

    def writable(self, ready: bool) -> None:
        """Ignored: nothing but interim responses (1xx) is written yet."""


def head(
    to: Exchange,
    app: App,
    recording: Recording | None,
    *,
    path: bytes,
    forward: bool,
    prefix: bytes | None = None,
) -> bytes:
    """Build the request head sent to the app.

    ``path``: as the app knows it; ``forward``, ``prefix``: see ``headers.towards_app``; ``recording``: receives the
    response, and may add conditional headers to revalidate a stored one."""
    asked, lines = to.request.head, x_sendfile.OFFER if app.delivery.sendfile.enabled else b""
    if recording is not None:
        lines += recording.adds
        if recording.drops:
            asked = copy(asked)  # the client's own head stays complete
            asked.drop(*recording.drops)
    return headers.towards_app(
        asked,
        path=path,
        peer=to.request.peer.encode(),
        identity=to.identity,
        milliseconds=int(time() * 1000),
        forward=forward,
        prefix=prefix,
        more=lines,
    )
