"""The record of one request: filled in along the way, written once at the end."""

from collections.abc import Callable
from time import monotonic, time
from typing import Protocol

from flyatc.delivery.recording import Recording
from flyatc.delivery.served import Served
from flyatc.observe.metrics import Counters
from flyatc.routing.sealed import Opened
from flyatc.wire import server


class Keeper(Protocol):
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

    def __init__(self, recorder: Keeper, request: server.Request, identity: bytes, remote: str) -> None:
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
        self.came: Opened | None = None  # another machine of ours has handed it to us
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

    def not_recorded(self) -> Served | None:
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
