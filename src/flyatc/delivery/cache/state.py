"""Shared state of the cache: store, counters, request coalescing, and the reasons for a miss. Pure."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flyatc.delivery.cache import memory
from flyatc.delivery.cache.request_key import Selector, Uri, plain_origin
from flyatc.delivery.cache.stored import Ready
from flyatc.wire import head

_SLOTS = 4096
_RELOADS = ([b"max-age=0"], [b"no-cache"])  # Cache-Control of a browser's reload
_NO_HOST = (b"",)


@dataclass(slots=True)
class Counts:
    """Counters since the start.

    Requests: ``hits`` (including ``stale`` ones), ``misses``, ``bypassed``, ``waited`` (coalesced with another).
    Responses: ``stored``, ``refreshed`` by a 304, ``invalidated`` by an unsafe method."""

    hits: int = 0
    stale: int = 0
    waited: int = 0
    misses: int = 0
    bypassed: int = 0
    stored: int = 0
    refreshed: int = 0
    invalidated: int = 0


class CacheState:
    """``item``: maximum octets of one body; ``pending``: octets of bodies being recorded."""

    def __init__(self, bound: int, item: int) -> None:
        self.memory = memory.MemoryStore(bound)
        self.flights = Coalescing()
        self.counts = Counts()
        self.item = min(item, bound)
        self.pending, self.pending_bound = 0, max(bound // 4, self.item)
        self._voided = array("Q", bytes(8 * _SLOTS))
        self._clears = 0

    def stamp(self, uri: Uri) -> int:
        """A number that changes when earlier responses for the URI become invalid.

        Kept by hash: it may rarely change without need, but never fails to change."""
        return self._clears + self._voided[hash(uri) % _SLOTS]

    def pass_by(self, request: head.RequestHead, tenant: str, settings: object, now: float) -> int | Ready | None:
        """Return what takes no look-up. A stamp: the request can go to the app: nothing is stored for its URI, and
        its responses cannot serve others; pass the response to ``Cache.passed``. Ready: a hit. None: call
        ``Cache.look_up``. ``settings``: see ``Cache.keep_ready``; ``now``: Unix seconds."""
        noted = request.noted
        if request.method != b"GET" or request.framing is not head.NEVER or request.upgrade is not None:
            return None
        if b"cache-control" in noted and noted[b"cache-control"] not in _RELOADS:
            return None
        if b"range" in noted or b"if-match" in noted or b"if-unmodified-since" in noted:
            return None
        uri = (tenant, noted.get(b"host", _NO_HOST)[0].lower(), request.path, request.query)
        resource = self.memory.resources.get(uri)
        if resource is None:
            number = hash(uri)
            if self.flights.alone[number % _FLIGHT_SLOTS] != number:
                return None
            self.counts.misses += 1
            return self._clears + self._voided[number % _SLOTS]
        if not resource.ready or (origin := plain_origin(request)) is None:
            return None
        ready = resource.ready.get((request.joined(b"accept-encoding"), origin))
        if ready is None or ready.settings is not settings or now >= ready.until:
            return None
        self.memory.touch(ready.entry)
        self.counts.hits += 1
        return ready

    def invalidate(self, uri: Uri) -> None:
        """Drop what is stored for the URI, and prevent storing responses that are being received."""
        self._voided[hash(uri) % _SLOTS] += 1
        if self.memory.resource(uri) is not None:
            self.counts.invalidated += 1
            self.memory.remove(uri)

    def clear(self, tenants: frozenset[str]) -> int:
        self._clears += 1
        return self.memory.clear(tenants)


class Way(NamedTuple):
    """A reason why a request goes to the app.

    ``forward``: as RFC 9211 §2.2 names it; ``cache``: as X-Cache names it; ``stores``: the response may be stored;
    ``unsafe``: success changes the resource; ``reason``: for the log; ``cache_lines``, ``cache_lines_stored``: header
    lines for the client."""

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
Landing = Callable[[bool], None]  # argument: whether it may wait again

_FLIGHT_SLOTS = 8192


class Waiting:
    """A request that waits for another's response. ``land`` is called once, unless ``leave`` was."""

    __slots__ = ("_flight", "land")

    def __init__(self, flight: "dict[Waiting, None]", land: Landing) -> None:
        self._flight, self.land = flight, land

    def leave(self) -> None:
        """Stop waiting: the client left, or waited long enough (then look up again without a waiter)."""
        self._flight.pop(self, None)


class Coalescing:
    """Coalesces equal concurrent requests: one goes to the app, the others wait for its response."""

    def __init__(self) -> None:
        self._open: dict[Key, dict[Waiting, None]] = {}
        # URIs whose responses cannot serve other requests, by hash: each slot holds one. This needs no clock and no
        # cleanup; two that share a slot only cost a wait.
        self.alone = array("q", bytes(8 * _FLIGHT_SLOTS))

    def begin(self, key: Key) -> bool:
        """Return whether this request leads, so that others wait for it; else call ``join``."""
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
        """Finish: all waiting requests look up again."""
        flight = self._open.pop(key)
        waiting = list(flight)
        flight.clear()
        for one in waiting:
            one.land(again)

    def lonely(self, uri: Uri) -> bool:
        """Return whether waiting for another's response is known to be useless."""
        number = hash(uri)
        return self.alone[number % _FLIGHT_SLOTS] == number

    def remember(self, uri: Uri, *, lonely: bool) -> None:
        number = hash(uri)
        if lonely:
            self.alone[number % _FLIGHT_SLOTS] = number
        elif self.alone[number % _FLIGHT_SLOTS] == number:
            self.alone[number % _FLIGHT_SLOTS] = 0
