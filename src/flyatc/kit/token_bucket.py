"""Token bucket for work on behalf of names that clients may have made up. Pure: times in seconds are passed in."""


class TokenBucket:
    """A burst of ``at_once``, then ``a_second`` each second; at most ``under_way`` at the same time. The token is
    returned if the name turns out to be known."""

    def __init__(self, at_once: float, a_second: float, under_way: int) -> None:
        self._at_once, self._a_second, self._most = at_once, a_second, under_way
        self._left, self._at = at_once, 0.0
        self._under_way = 0

    def allows(self, now: float) -> bool:
        """Return whether one more may begin."""
        return self._under_way < self._most and self._refilled(now) >= 1.0

    def enter(self, now: float) -> None:
        """Take a token: one begins."""
        self._left, self._at = self._refilled(now) - 1.0, now
        self._under_way += 1

    def exit(self, *, known: bool) -> None:
        """One has ended. ``known``: the name exists, so its token is returned."""
        self._under_way -= 1
        if known:
            self._left = min(self._at_once, self._left + 1.0)

    def _refilled(self, now: float) -> float:
        return min(self._at_once, self._left + (now - self._at) * self._a_second)
