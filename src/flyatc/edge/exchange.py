"""The context of one request, filled in along its path and logged once at the end.

Also the base class of requests that wait before their body is read, and the request head sent to an app.
"""

from collections.abc import Callable
from copy import copy
from time import monotonic, time
from typing import Protocol

from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit
from flyatc.edge import headers
from flyatc.edge.served_app import ServedApp
from flyatc.observe.counters import Counters
from flyatc.routing.request_signature import ForwardedRequest
from flyatc.wire import head, server
from flyatc.wire.errors import BadMessage


class ExchangeRecorder(Protocol):
    """Counts and logs finished requests."""

    counters: Counters

    def write(self, exchange: "Exchange") -> None: ...

    def warn(self, exchange: "Exchange", reason: str) -> None: ...


class Exchange(server.Request):
    """One request, from its head to the last byte of its response.

    What every request reads is a slot. What is rare is an attribute of the class until it applies.

    ``identity``: the request id; ``remote``: the client's address for the log; ``cache``: the value of X-Cache: hit,
    miss, bypass; ``since``: Unix time, set with ``stamp``: see ``Cache.pass_by``."""

    __slots__ = (
        "__dict__", "_ended", "_recorder", "began", "cache", "forwarded_to", "identity", "login", "on_end", "reason",
        "recording", "remote", "served", "silent", "since", "stamp", "start", "status", "tenant", "user", "wait",
    )  # fmt: skip

    served: ServedApp  # set once the request is routed
    since: float
    forwarded: ForwardedRequest | None = None  # its verified signature, if another machine forwarded it here

    def __init__(
        self, recorder: ExchangeRecorder, connection: server.Connection, request_head: head.RequestHead
    ) -> None:
        self._recorder = recorder
        self._connection = connection  # as the base class does, without another call
        self.head = request_head
        self.peer = self.remote = connection.peer
        self.body_done = request_head.framing is head.NEVER
        self.receiver = self.moving = None
        self.response_started = self.silent = self._ended = False
        self.opening, self.head_octets, self.sent, self.status = b"", 0, 0, 0
        self.user: str | None = None
        self.tenant: str | None = None
        self.start: str | None = None
        self.wait: float | None = None
        self.reason: str | None = None
        self.cache: str | None = None
        self.login: bytes | None = None  # X-Remote-User, if the tenant has ``auth``; empty: on a public path
        self.forwarded_to: str | None = None  # for the log: the machine it was forwarded to, and why
        self.on_end: Callable[[], None] | None = None
        self.recording: Recording | None = None  # receives the app's response, for the cache
        self.stamp: int | None = None
        self.began = monotonic()
        given = b"x-request-id" in request_head.noted
        self.identity = headers.request_id(request_head) if given else b"%032x" % headers.random_bits(128)
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


def app_head(to: Exchange, recording: Recording | None) -> bytes:
    """Build the request head sent to the app. ``recording``: receives the response, and may add conditional headers to
    revalidate a stored one."""
    asked, at = to.head, to.served
    if at.beside and headers.DASHBOARD_COOKIE in b"".join(asked.kept):
        asked = headers.without_dashboard_cookies(asked)
    if asked.whole is not None and at.stripped is None and recording is None:
        host, now = asked.noted[b"host"][0], int(time() * 1000)
        return headers.WHOLE % (asked.whole, to.peer.encode(), host, to.identity, now, at.offer)
    lines = at.offer
    if recording is not None:
        lines += recording.adds
        if recording.drops:
            asked = copy(asked)  # the client's own head stays complete
            asked.drop(*recording.drops)
    if to.login is not None:
        asked = copy(asked)
        asked.drop(*headers.REMOTE_USER, *((b"authorization",) if to.login else ()))  # the app needs no password
        lines += b"\r\nX-Remote-User: " + to.login if to.login else b""
    path, prefix = asked.path, at.stripped
    return headers.towards_app(
        asked,
        path=path if prefix is None else path[len(prefix) :] or b"/",
        peer=to.peer.encode(),
        identity=to.identity,
        milliseconds=int(time() * 1000),
        forward=at.forward and not (at.on_fly and headers.is_private_peer(to.peer)),
        prefix=prefix,
        more=lines,
    )
