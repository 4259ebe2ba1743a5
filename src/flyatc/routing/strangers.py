"""How many users whom nobody knows are looked up: the first ones at once, and then so many a second. Pure: what time it
is, in seconds, is told.

Each costs questions to the DNS and a read of the store, and anybody can think of a million names. Who turns out to be
known costs nothing here: after a restart all are looked up as they come."""

AT_ONCE = 500.0
A_SECOND = 100.0
UNDER_WAY = 200  # that have not been answered


class Strangers:
    def __init__(self) -> None:
        self._left, self._at = AT_ONCE, 0.0
        self._under_way = 0

    def welcome(self, now: float) -> bool:
        """Whether one more may be looked up."""
        return self._under_way < UNDER_WAY and self._refilled(now) >= 1.0

    def come(self, now: float) -> None:
        """One is being looked up."""
        self._left, self._at = self._refilled(now) - 1.0, now
        self._under_way += 1

    def leave(self, *, known: bool) -> None:
        """He was looked up. ``known``: he is none."""
        self._under_way -= 1
        if known:
            self._left = min(AT_ONCE, self._left + 1.0)

    def _refilled(self, now: float) -> float:
        return min(AT_ONCE, self._left + (now - self._at) * A_SECOND)
