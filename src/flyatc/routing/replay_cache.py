"""Cached replays, and the history of successful and failed replays. Pure: times, in seconds, are arguments.

Replay caching (https://fly.io/docs/networking/dynamic-request-routing/): a replay that Fly Proxy is to cache may have
no ``state``, ``timeout`` or ``fallback``, and its target may not cache replays in turn. The target invalidates "by
issuing a fly-replay back to the origin". According to the page's JSON example the origin is an app, which includes this
one. So a target that does not serve the user replays the request to the machine that does, and invalidates thereby.

Only replays to targets that recently accepted replays may be cached (``ReplaySuccesses``): failures of cached replays
are not reported.

A failed replay is reported in a request header, which a client may forge. It counts (``ReplayFailures``) only if this
machine has replayed the user's requests to that target for long enough, and recently. A machine that can wake is awake
by then and holds the user's lease, and the lease record shows that, whatever clients claim.
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


class Arrival(Enum):
    """How a request arrived, according to its headers. A forged one affects only the client's own cached replays."""

    FIRST = "no other machine was asked"
    REPLAYED = "another machine replayed it"
    REMEMBERED = "a cached replay led here"


def classify_arrival(sources: Collection[bytes], statuses: Collection[bytes], hops: int) -> Arrival:
    """Classify a request's arrival. ``sources``, ``statuses``: Fly-Replay-Src and Fly-Replay-Cache-Status.

    ``hops``: see routing.replay.Source; every replay carries them, except those to be cached."""
    if b"hit" in statuses or (b"miss" in statuses and hops == 0):
        return Arrival.REMEMBERED
    return Arrival.REPLAYED if sources or statuses else Arrival.FIRST


def headers(host: bytes | None, prefix: str, seconds: float) -> list[Header] | None:
    """Headers that cache a replay for all paths below ``prefix``, on this host only.

    ``prefix``: "/customers/100", as in the request. None if this cannot be expressed."""
    named = _HOST.fullmatch((host or b"").lower())
    if named is None or "*" in prefix or seconds < LEAST_REPLAY_CACHE:
        return None
    pattern = named[1] + prefix.encode() + b"/*"
    return [(b"Fly-Replay-Cache", pattern), (b"Fly-Replay-Cache-TTL-Secs", b"%d" % seconds)]


LASTING = 30.0  # seconds without a replay whose failure would be reported; then the target is no longer proven
MOST = 1000  # users


@dataclass(slots=True)
class _SuccessSeries:
    """``well``: time of the first replay since which no failure was reported."""

    to: Target
    well: float
    last: float


class ReplaySuccesses:
    """Targets that recently accepted replays.

    ``timeout``: seconds after which the proxy reports a failure, or a little more."""

    def __init__(self, timeout: float) -> None:
        self._enough = 1.5 * timeout
        self._series: dict[str, _SuccessSeries] = {}

    def sent(self, user: str, to: Target, now: float) -> None:
        """Record a replay whose failure would be reported."""
        series = self._series.pop(user, None)
        if series is None or (series.to is not to and series.to != to) or now - series.last > LASTING:
            series = _SuccessSeries(to, now, now)
        series.last = now
        self._series[user] = series
        if len(self._series) > MOST:
            del self._series[next(iter(self._series))]

    def failed(self, user: str) -> None:
        """Record a reported failure, which any client may forge."""
        self._series.pop(user, None)

    def proven(self, user: str, to: Target, now: float) -> bool:
        series = self._series.get(user)
        if series is None or series.to != to:
            return False
        return now - series.last <= LASTING and now - series.well > self._enough


PATIENCE = 10.0  # seconds in which a machine wakes, if it can at all
LATE = 10.0  # seconds from the proxy's timeout until its report arrives
MEMORY = 90.0  # seconds for which a target counts as unreachable


@dataclass(slots=True)
class _FailureSeries:
    """``since``, ``last``: first and last replay. ``failing``: start of the failures; ``failed``: last report."""

    to: Target
    since: float
    last: float
    failing: float = 0.0
    failed: float | None = None


class ReplayFailures:
    """Targets to which replays fail."""

    def __init__(self) -> None:
        self._series: dict[str, _FailureSeries] = {}
        self.timeout = 0.0  # seconds after which the proxy reports a failure

    def sent(self, user: str, to: Target, now: float) -> None:
        """Record a replay."""
        series = self._of(user, to, now)
        if series is not None:
            series.last = now
            return
        self._series.pop(user, None)
        while len(self._series) >= MOST:
            del self._series[next(iter(self._series))]
        self._series[user] = _FailureSeries(to, now, now)

    def failed(self, user: str, after: float, now: float) -> bool:
        """Record a failure reported ``after`` so many seconds. Return whether the target is now unreachable."""
        series = self._series.get(user)
        if series is None or now - series.last > self.timeout + LATE:
            return False
        if series.failed is None or now - series.failed > MEMORY:
            series.failing = max(series.since, now - min(after, self.timeout))
        series.failed = now
        return self.unreachable(user, series.to, now)

    def unreachable(self, user: str, to: Target, now: float) -> bool:
        """Return whether replays there have failed for long enough, and recently."""
        series = self._of(user, to, now)
        if series is None or series.failed is None:
            return False
        return series.failed - series.failing >= PATIENCE and now - series.failed <= MEMORY

    def _of(self, user: str, to: Target, now: float) -> _FailureSeries | None:
        series = self._series.get(user)
        same = series is not None and (series.to is to or series.to == to)
        return series if same and series is not None and now - series.last <= MEMORY else None
