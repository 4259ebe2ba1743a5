"""Replays to machines which may never answer. Pure: what time it is, in seconds, is told.

That a replay has failed is told in a request header, which a visitor may write as well. It counts only where we have
sent the user there ourselves for a while: a machine that can be woken is awake by then, and the DNS shows it."""

from dataclasses import dataclass

from flyatc.routing.replay import Target

PATIENCE = 10.0  # seconds in which a machine wakes, if it can
MEMORY = 90.0  # seconds; the proxy tries for replay.timeout before it tells of a failure
MOST = 1000  # users


@dataclass(slots=True)
class _Series:
    to: Target
    since: float
    last: float
    failed: float | None = None


class Tries:
    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

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

    def failed(self, user: str, to: Target, now: float) -> None:
        """Somebody says that it came to nothing."""
        series = self._of(user, to, now)
        if series is not None and now - series.since >= PATIENCE:
            series.failed = now

    def vain(self, user: str, to: Target, now: float) -> bool:
        """Whether it is of no use to send him there."""
        series = self._of(user, to, now)
        return series is not None and series.failed is not None and now - series.failed <= MEMORY

    def _of(self, user: str, to: Target, now: float) -> _Series | None:
        series = self._series.get(user)
        return series if series is not None and series.to == to and now - series.last <= MEMORY else None
