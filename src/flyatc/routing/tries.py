"""Replays to machines which may never answer. Pure: what time it is, in seconds, is told.

That a replay has failed is told in a request header, which a visitor may write as well. It counts only where we have
sent the user there ourselves for so long, and just now: a machine that can be woken is awake by then, and has taken
him. The record of his owner says so, whatever visitors say."""

from dataclasses import dataclass

from flyatc.routing.replay import Target

PATIENCE = 10.0  # seconds in which a machine wakes, if it can
LATE = 10.0  # seconds; from when the proxy gives up until we are told of it
MEMORY = 90.0  # seconds for which it is of no use to try
MOST = 1000  # users


@dataclass(slots=True)
class _Series:
    """``since``, ``last``: of what was sent. ``failing``: since when; ``failed``: the last time we were told so."""

    to: Target
    since: float
    last: float
    failing: float = 0.0
    failed: float | None = None


class Tries:
    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
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
        self._series[user] = _Series(to, now, now)

    def failed(self, user: str, after: float, now: float) -> bool:
        """Somebody says that it came to nothing, ``after`` so many seconds. Whether it is of no use by now."""
        series = self._series.get(user)
        if series is None or now - series.last > self.timeout + LATE:
            return False
        if series.failed is None or now - series.failed > MEMORY:
            series.failing = max(series.since, now - min(after, self.timeout))
        series.failed = now
        return self.vain(user, series.to, now)

    def vain(self, user: str, to: Target, now: float) -> bool:
        """Whether it is of no use to send him there."""
        series = self._of(user, to, now)
        if series is None or series.failed is None:
            return False
        return series.failed - series.failing >= PATIENCE and now - series.failed <= MEMORY

    def _of(self, user: str, to: Target, now: float) -> _Series | None:
        series = self._series.get(user)
        return series if series is not None and series.to == to and now - series.last <= MEMORY else None
