"""Requests for the same at the same time: one goes to the app, the others wait for what becomes of it. Pure."""

from array import array
from collections.abc import Callable

from flyatc.delivery.asked import Selector, Uri

Key = tuple[Uri, Selector]
Landing = Callable[[bool], None]  # whether it may wait again, for another

_SLOTS = 8192


class Waiting:
    """One who waits for another's answer. He is called once, unless he leaves."""

    __slots__ = ("_flight", "land")

    def __init__(self, flight: "dict[Waiting, None]", land: Landing) -> None:
        self._flight, self.land = flight, land

    def leave(self) -> None:
        """The visitor left, or will wait no longer (then he looks up again, without waiting)."""
        self._flight.pop(self, None)


class Flights:
    def __init__(self) -> None:
        self._open: dict[Key, dict[Waiting, None]] = {}
        # Addresses whose answers are of no use to others, by hash: each slot holds one. It needs no clock and no
        # upkeep; two that share a slot only cost a wait.
        self._lonely = array("q", bytes(8 * _SLOTS))

    def begin(self, key: Key) -> bool:
        """Whether this one goes first, for others to wait; else ``join``."""
        if key in self._open:
            return False
        self._open[key] = {}
        return True

    def under_way(self, key: Key) -> bool:
        return key in self._open

    def join(self, key: Key, land: Landing) -> Waiting:
        flight = self._open[key]
        waiting = Waiting(flight, land)
        flight[waiting] = None
        return waiting

    def land(self, key: Key, *, again: bool) -> None:
        """It is over: all who waited look again."""
        flight = self._open.pop(key)
        waiting = list(flight)
        flight.clear()
        for one in waiting:
            one.land(again)

    def lonely(self, uri: Uri) -> bool:
        """Whether to wait for another's answer is in vain, as far as is known."""
        number = hash(uri)
        return self._lonely[number % _SLOTS] == number

    def remember(self, uri: Uri, *, lonely: bool) -> None:
        number = hash(uri)
        if lonely:
            self._lonely[number % _SLOTS] = number
        elif self._lonely[number % _SLOTS] == number:
            self._lonely[number % _SLOTS] = 0
