"""What the parts of the cache share: the shelf, the flights, the counts.

Why a request goes to the app, though there is a cache. Pure.

Requests for the same at the same time: one goes to the app, the others wait for what becomes of it. Pure.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flyatc.delivery.cache import memory
from flyatc.delivery.cache.request_key import Selector, Uri

_SLOTS = 4096


@dataclass(slots=True)
class Counts:
    """Requests since the start: ``hits`` (``stale`` ones among them), ``misses``, ``bypassed``, how often one
    ``waited`` for another's answer; answers ``stored``, ``refreshed`` by a 304, ``invalidated`` by an unsafe
    method."""

    hits: int = 0
    stale: int = 0
    waited: int = 0
    misses: int = 0
    bypassed: int = 0
    stored: int = 0
    refreshed: int = 0
    invalidated: int = 0


class CacheState:
    """``item``: the most octets of one body; ``pending``: octets of bodies which are still coming in; ``heuristic``:
    see ``freshness.lifetime``."""

    def __init__(self, bound: int, item: int, heuristic: float) -> None:
        self.shelf = memory.MemoryStore(bound)
        self.flights = Coalescing()
        self.counts = Counts()
        self.item, self.heuristic = min(item, bound), heuristic
        self.pending, self.pending_bound = 0, max(bound // 4, self.item)
        self._voided = array("Q", bytes(8 * _SLOTS))
        self._clears = 0

    def stamp(self, uri: Uri) -> int:
        """Changes when what an app said about the address until now is no longer to be believed (by hash: seldom too
        often, never too seldom)."""
        return self._clears + self._voided[hash(uri) % _SLOTS]

    def invalidate(self, uri: Uri) -> None:
        """Drops what is stored for it, and sees to it that answers which are on their way are not stored."""
        self._voided[hash(uri) % _SLOTS] += 1
        if self.shelf.resource(uri) is not None:
            self.counts.invalidated += 1
            self.shelf.remove(uri)

    def clear(self, tenants: str | None) -> int:
        self._clears += 1
        return self.shelf.clear(tenants)


class Way(NamedTuple):
    """``forward``: why, in the words of RFC 9211 §2.2; ``cache``: in those of X-Cache;
    ``stores``: its answer may be stored; ``unsafe``: its success changes the resource; ``reason``: for the log;
    ``cache_lines``, ``cache_lines_stored``: header lines."""

    forward: bytes
    cache: str
    stores: bool
    unsafe: bool
    reason: str
    cache_lines: bytes
    cache_lines_stored: bytes


def way(forward: bytes, cache: bytes, reason: str, *, stores: bool = False, unsafe: bool = False) -> Way:
    status, line = b"\r\nCache-Status: flyatc; fwd=" + forward, b"\r\nX-Cache: " + cache
    return Way(forward, cache.decode(), stores, unsafe, reason, status + line, status + b"; stored" + line)


Key = tuple[Uri, Selector]
Landing = Callable[[bool], None]  # whether it may wait again, for another

_FLIGHT_SLOTS = 8192


class Waiting:
    """One who waits for another's answer. He is called once, unless he leaves."""

    __slots__ = ("_flight", "land")

    def __init__(self, flight: "dict[Waiting, None]", land: Landing) -> None:
        self._flight, self.land = flight, land

    def leave(self) -> None:
        """The visitor left, or will wait no longer (then he looks up again, without waiting)."""
        self._flight.pop(self, None)


class Coalescing:
    def __init__(self) -> None:
        self._open: dict[Key, dict[Waiting, None]] = {}
        # Addresses whose answers are of no use to others, by hash: each slot holds one. It needs no clock and no
        # upkeep; two that share a slot only cost a wait.
        self._lonely = array("q", bytes(8 * _FLIGHT_SLOTS))

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
        return self._lonely[number % _FLIGHT_SLOTS] == number

    def remember(self, uri: Uri, *, lonely: bool) -> None:
        number = hash(uri)
        if lonely:
            self._lonely[number % _FLIGHT_SLOTS] = number
        elif self._lonely[number % _FLIGHT_SLOTS] == number:
            self._lonely[number % _FLIGHT_SLOTS] = 0
