"""A bound for what the daemon keeps in memory for clients: unfinished heads, bytes sent ahead, responses that are not
read. Each connection is bounded already; this bounds all of them together, so that many cannot use up the machine.

Nothing is counted while requests pass by: what all hold is summed up when enough may have been added.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from time import monotonic
from typing import Protocol

from flyatc.kit import machine_memory

LEAST = 32 << 20  # octets, if the setting does not say it
SHARE = 8  # the part of the machine's memory
WARN_SECONDS = 60.0
LARGE_HEAD = 8192  # octets of a head from which it counts as growth
COPIES = 3  # of a request's head, while it is processed
# Octets that are held at most while the other side does not take them: a whole read (uvloop reads 256,000 octets at
# once) on top of WRITE_HIGH.
ONE_SIDE = 393216


READ = 131072  # octets read at once from an app, or in a tunnel, at most
FEW = 8192  # the same while memory is short: what was closed is freed only after all that is ready was read
_memory = bytearray(READ)


class Reading:
    """The memory for reads of all buffered protocols: nothing else is read until what is in it is passed on.

    ``room``: the part to read into."""

    memory, whole = _memory, memoryview(_memory)
    room = whole


class Holder(Protocol):
    """A connection or a tunnel."""

    def held(self) -> int:
        """Return the octets that it has in memory; 0 once it was shed."""

    def still_since(self) -> float:
        """Return when the client last sent or took something (monotonic)."""

    def shed(self) -> None:
        """End it, to free its memory."""


@lru_cache(1)
def default() -> int:
    """Return the bound if the setting does not name one."""
    return max(LEAST, machine_memory.total() // SHARE)


class Buffers:
    """The bound for all connections of one listener. ``tunnels``: those that came from them."""

    def __init__(
        self, connections: Iterable[Holder], setting: Callable[[], int | None], warn: Callable[[str], None]
    ) -> None:
        """``setting``: returns ``limits.buffers``; ``warn``: called now and then while connections are closed."""
        self._connections, self._setting, self._warn = connections, setting, warn
        self.tunnels: set[Holder] = set()
        self._grown, self._room = 0, 0  # octets added since the last sum; octets that were left then
        self._closed, self._warned = 0, -WARN_SECONDS
        self._busy = False

    @property
    def bound(self) -> int:
        return self._setting() or default()

    def grown(self, octets: int, by: Holder) -> None:
        """Note that ``by`` may hold so many octets more. It is not closed itself by this call."""
        self._grown += octets
        if self._grown > self._room:
            self.check(by)
        elif self._grown > self._room // 2:
            Reading.room = Reading.whole[:FEW]

    def check(self, by: Holder | None = None) -> None:
        """Sum up what all hold. If it is too much, close those that hold most for longest."""
        if self._busy:
            return
        self._busy = True
        try:
            self._sum_up(by)
        finally:
            self._busy = False

    def _sum_up(self, by: Holder | None) -> None:
        bound = self.bound
        holders = [(octets, one) for one in (*self._connections, *self.tunnels) if (octets := one.held())]
        total = sum(octets for octets, _ in holders)
        if total > bound:
            total = self._close(holders, total, bound * 3 // 4, by)
        self._grown, self._room = 0, max(bound - total, bound // 8)
        Reading.room = Reading.whole[:FEW] if total > bound // 2 else Reading.whole

    def _close(self, holders: list[tuple[int, Holder]], total: int, wanted: int, by: Holder | None) -> int:
        """Close some until all hold at most ``wanted`` octets. Return what is left."""
        now = monotonic()
        holders.sort(key=lambda one: one[0] * (now - one[1].still_since() + 0.1), reverse=True)
        for octets, one in holders:
            if total <= wanted:
                break
            if one is not by:
                one.shed()
                total -= octets
                self._closed += 1
        if now - self._warned >= WARN_SECONDS:
            self._warned = now
            self._warn(
                "clients hold too much memory by requests that they do not finish and responses that they do not read:"
                f" {self._closed} connections were closed (limits.buffers)"
            )
            self._closed = 0
        return total
