"""Which machines do serve whom we send there: a replay to no other may be remembered, since of one that is remembered
nobody hears that it fails. Pure: what time it is, in seconds, is told."""

from dataclasses import dataclass

from flyatc.routing.replay import Target

LASTING = 30.0  # seconds without a replay of which we would hear that it failed; then nothing is proven any more
MOST = 1000  # users


@dataclass(slots=True)
class _Series:
    """``well``: when that was sent since which nobody has told of a failure."""

    to: Target
    well: float
    last: float


class Proofs:
    """``timeout``: seconds for which the proxy tries before it tells of a failure, or a little more."""

    def __init__(self, timeout: float) -> None:
        self._enough = 1.5 * timeout
        self._series: dict[str, _Series] = {}

    def sent(self, user: str, to: Target, now: float) -> None:
        """One of his requests was replayed there, in such a way that we hear if it fails."""
        series = self._series.pop(user, None)
        if series is None or series.to != to or now - series.last > LASTING:
            series = _Series(to, now, now)
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
