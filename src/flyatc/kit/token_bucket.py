"""A token bucket for work on behalf of names that anybody can make up. Pure: the time, in seconds, is passed in."""


class TokenBucket:
    """The first ``at_once`` without delay, then ``a_second`` each second; ``under_way`` at the same time. A name that
    turns out to be known is given its token back."""

    def __init__(self, at_once: float, a_second: float, under_way: int) -> None:
        self._at_once, self._a_second, self._most = at_once, a_second, under_way
        self._left, self._at = at_once, 0.0
        self._under_way = 0

    def allows(self, now: float) -> bool:
        """Whether one more may begin."""
        return self._under_way < self._most and self._refilled(now) >= 1.0

    def enter(self, now: float) -> None:
        """One begins."""
        self._left, self._at = self._refilled(now) - 1.0, now
        self._under_way += 1

    def exit(self, *, known: bool) -> None:
        """It is over. ``known``: the name was not made up."""
        self._under_way -= 1
        if known:
            self._left = min(self._at_once, self._left + 1.0)

    def _refilled(self, now: float) -> float:
        return min(self._at_once, self._left + (now - self._at) * self._a_second)
