"""The record of one request: filled in along the way, written once at the end.

A request which waits, its body not yet asked for.

The head of a request as an app is to see it.
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
    """Takes the records."""

    counters: Counters

    def write(self, exchange: "Exchange") -> None: ...

    def warn(self, exchange: "Exchange", reason: str) -> None: ...


class Exchange:
    """One request, from its head to the last byte of its answer."""

    __slots__ = (
        "_ended", "_recorder", "began", "cache", "came", "identity", "on_end", "onward", "reason", "recording",
        "remote", "request", "silent", "start", "status", "tenant", "user", "wait",
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
        self.cache: str | None = None  # what X-Cache says: hit, miss, bypass
        self.came: ForwardedRequest | None = None  # another machine of ours has handed it to us
        self.onward: str | None = None  # we have handed it to another: to which, and why
        self.silent = False
        self.on_end: Callable[[], None] | None = None
        self.recording: Recording | None = None  # is fed with the app's answer
        recorder.counters.in_flight += 1

    def warn(self, reason: str) -> None:
        """Somebody should look at this."""
        self._recorder.warn(self, reason)

    def tunnels(self, more: int) -> None:
        """It became a tunnel, or the tunnel ended."""
        self._recorder.counters.tunnels += more

    def recorded(self) -> None:
        """The app's answer is complete."""
        recording, self.recording = self.recording, None
        if recording is not None:
            recording.end()

    def not_recorded(self) -> CacheHit | None:
        """The app gave no answer, or none for the cache. Served: what may stand in for it."""
        recording, self.recording = self.recording, None
        return None if recording is None else recording.fail(time())

    def sent_on(self) -> None:
        """Another machine is to answer."""
        recording, self.recording = self.recording, None
        if recording is not None:
            recording.sent_on()

    def end(self) -> None:
        """Whatever happened, it is over: gives back the visit, writes the line. Once."""
        if self._ended:
            return
        self._ended = True
        if self.onward is not None:
            self.reason = self.onward if self.reason is None else f"{self.onward}; {self.reason}"
        if self.recording is not None:
            if self.status >= 500:
                self.not_recorded()
            else:
                self.recording.gone()
        if self.on_end is not None:
            self.on_end()
        self._recorder.write(self)


class WaitingReceiver:
    """The part of wire.server.Receiver which all that wait have in common: they never called ``Request.receive``."""

    __slots__ = ()

    def body(self, data: bytes) -> None:
        raise AssertionError("nobody has asked for the body yet")

    def body_end(self, trailers: list[bytes]) -> None:
        raise AssertionError("nobody has asked for the body yet")

    def body_failed(self, fault: BadMessage) -> None:
        raise AssertionError("nobody has asked for the body yet")

    def writable(self, ready: bool) -> None:
        """Nothing is written yet but interim answers."""


def head(
    to: Exchange,
    app: App,
    recording: Recording | None,
    *,
    path: bytes,
    forward: bool,
    prefix: bytes | None = None,
) -> bytes:
    """``path``: as the app knows it; ``forward``, ``prefix``: see ``headers.towards_app``; ``recording``: is fed with
    the answer, and may ask whether what is stored is still good."""
    asked, lines = to.request.head, x_sendfile.OFFER if app.delivery.sendfile.enabled else b""
    if recording is not None:
        lines += recording.adds
        if recording.drops:
            asked = copy(asked)  # the visitor has said it, though the app does not hear it
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
