"""What the parts of the cache share: the shelf, the flights, the counts."""

from array import array
from dataclasses import dataclass

from flyatc.delivery import flights, shelf
from flyatc.delivery.asked import Uri

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


class Books:
    """``item``: the most octets of one body; ``pending``: octets of bodies which are still coming in; ``heuristic``:
    see ``freshness.lifetime``."""

    def __init__(self, bound: int, item: int, heuristic: float) -> None:
        self.shelf = shelf.Shelf(bound)
        self.flights = flights.Flights()
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
