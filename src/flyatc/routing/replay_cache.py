"""Replays which Fly Proxy remembers, and what ends that when a user has moved. Pure.

https://fly.io/docs/networking/dynamic-request-routing/ (Replay Caching). A replay that is to be remembered may have no
``state``, ``timeout`` or ``fallback``, and its target may have none remembered in turn. The target invalidates "by
issuing a fly-replay back to the origin": that is an app, as the page's example in JSON says it, and ours is one. So a
target which does not serve the user sends the request on to the machine which does, as ever, and invalidates with that.

Which machines do serve whom we send there: a replay to no other may be remembered, since of one that is remembered
nobody hears that it fails. Pure: what time it is, in seconds, is told.

Replays to machines which may never answer. Pure: what time it is, in seconds, is told.

That a replay has failed is told in a request header, which a visitor may write as well. It counts only where we have
sent the user there ourselves for so long, and just now: a machine that can be woken is awake by then, and has taken
him. The record of his owner says so, whatever visitors say.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from flyatc.config.schema_sections import LEAST_REPLAY_CACHE
from flyatc.routing.replay import Target

Header = tuple[bytes, bytes]

STATUS = b"fly-replay-cache-status"
INVALIDATE: Header = (b"Fly-Replay-Cache", b"invalidate")

_HOST = re.compile(rb"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::[0-9]{1,5})?")


class Came(Enum):
    """How a request found us, as it says itself; a visitor may lie, which changes but what is remembered for him."""

    FIRST = "no other machine was asked"
    REPLAYED = "another machine replayed it"
    REMEMBERED = "a replay which is remembered led here"


def came(sources: Collection[bytes], statuses: Collection[bytes], hops: int) -> Came:
    """``sources``, ``statuses``: of Fly-Replay-Src and Fly-Replay-Cache-Status; ``hops``: see routing.replay.Source.
    All our replays count theirs, but those which are to be remembered."""
    if b"hit" in statuses or (b"miss" in statuses and hops == 0):
        return Came.REMEMBERED
    return Came.REPLAYED if sources or statuses else Came.FIRST


def headers(host: bytes | None, prefix: str, seconds: float) -> list[Header] | None:
    """What has a replay remembered for all that lies below ``prefix`` ("/customers/100", as it stands in the request),
    on this host only. None: it cannot be said."""
    named = _HOST.fullmatch((host or b"").lower())
    if named is None or "*" in prefix or seconds < LEAST_REPLAY_CACHE:
        return None
    pattern = named[1] + prefix.encode() + b"/*"
    return [(b"Fly-Replay-Cache", pattern), (b"Fly-Replay-Cache-TTL-Secs", b"%d" % seconds)]


LASTING = 30.0  # seconds without a replay of which we would hear that it failed; then nothing is proven any more
MOST = 1000  # users


@dataclass(slots=True)
class _SuccessSeries:
    """``well``: when that was sent since which nobody has told of a failure."""

    to: Target
    well: float
    last: float


class ReplaySuccesses:
    """``timeout``: seconds for which the proxy tries before it tells of a failure, or a little more."""

    def __init__(self, timeout: float) -> None:
        self._enough = 1.5 * timeout
        self._series: dict[str, _SuccessSeries] = {}

    def sent(self, user: str, to: Target, now: float) -> None:
        """One of his requests was replayed there, in such a way that we hear if it fails."""
        series = self._series.pop(user, None)
        if series is None or series.to != to or now - series.last > LASTING:
            series = _SuccessSeries(to, now, now)
        series.last = now
        self._series[user] = series
        if len(self._series) > MOST:
            del self._series[next(iter(self._series))]

    def failed(self, user: str) -> None:
        """Somebody says so: anybody may."""
        self._series.pop(user, None)

    def proven(self, user: str, to: Target, now: float) -> bool:
        series = self._series.get(user)
        if series is None or series.to != to:
            return False
        return now - series.last <= LASTING and now - series.well > self._enough


PATIENCE = 10.0  # seconds in which a machine wakes, if it can
LATE = 10.0  # seconds; from when the proxy gives up until we are told of it
MEMORY = 90.0  # seconds for which it is of no use to try


@dataclass(slots=True)
class _FailureSeries:
    """``since``, ``last``: of what was sent. ``failing``: since when; ``failed``: the last time we were told so."""

    to: Target
    since: float
    last: float
    failing: float = 0.0
    failed: float | None = None


class ReplayFailures:
    def __init__(self) -> None:
        self._series: dict[str, _FailureSeries] = {}
        self.timeout = 0.0  # seconds for which the proxy tries before it tells of a failure

    def sent(self, user: str, to: Target, now: float) -> None:
        """A request of his was replayed there."""
        series = self._of(user, to, now)
        if series is not None:
            series.last = now
            return
        self._series.pop(user, None)
        while len(self._series) >= MOST:
            del self._series[next(iter(self._series))]
        self._series[user] = _FailureSeries(to, now, now)

    def failed(self, user: str, after: float, now: float) -> bool:
        """Somebody says that it came to nothing, ``after`` so many seconds. Whether it is of no use by now."""
        series = self._series.get(user)
        if series is None or now - series.last > self.timeout + LATE:
            return False
        if series.failed is None or now - series.failed > MEMORY:
            series.failing = max(series.since, now - min(after, self.timeout))
        series.failed = now
        return self.unreachable(user, series.to, now)

    def unreachable(self, user: str, to: Target, now: float) -> bool:
        """Whether it is of no use to send him there."""
        series = self._of(user, to, now)
        if series is None or series.failed is None:
            return False
        return series.failed - series.failing >= PATIENCE and now - series.failed <= MEMORY

    def _of(self, user: str, to: Target, now: float) -> _FailureSeries | None:
        series = self._series.get(user)
        return series if series is not None and series.to == to and now - series.last <= MEMORY else None
