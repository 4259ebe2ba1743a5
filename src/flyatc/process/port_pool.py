"""Pool of free ports on 127.0.0.1 for apps."""

import random
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from flyatc.kit.errors import StartFailed

FIRST = 20000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
CONTESTED = 60.0  # s; how long a port that another process has taken is not handed out
LEAST = 1000  # smallest usable range


class PortPool:
    """Hands out ports below the kernel's ephemeral range. Otherwise an outgoing connection could take a port before
    the child binds it. Ports are taken in turn from a random start, so that a returned port is not reused soon (its
    last connections are in TIME_WAIT) and two daemons rarely collide."""

    def __init__(
        self, first: int | None = None, end: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """Use ports from ``first`` up to but not including ``end``. Default: from 20000 to the ephemeral range."""
        default = _range()
        self._first, self._end = first or default[0], end or default[1]
        self._next = random.randrange(self._first, self._end)  # noqa: S311  # spread, not secrecy
        self._taken: set[int] = set()
        self._contested: dict[int, float] = {}  # until when
        self._clock = clock

    def take(self) -> int:
        """Return a port that is neither handed out nor in use. Raises StartFailed if there is none."""
        for _ in range(self._end - self._first):
            port = self._next
            self._next = port + 1 if port + 1 < self._end else self._first
            if port not in self._taken and not self._resting(port) and _free(port):
                self._taken.add(port)
                return port
        raise StartFailed(
            f"no port between {self._first} and {self._end - 1} is free for another app: "
            "lower limits.running, or end the processes that use them"
        )

    @property
    def taken(self) -> int:
        """Number of ports handed out."""
        return len(self._taken)

    def give_back(self, port: int, *, contested: bool = False) -> None:
        """Return a port. ``contested``: another process has taken it; it is not handed out for CONTESTED seconds."""
        self._taken.discard(port)
        if contested:
            self._contested[port] = self._clock() + CONTESTED

    def _resting(self, port: int) -> bool:
        until = self._contested.get(port)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._contested[port]
        return False


def _range() -> tuple[int, int]:
    try:
        low, high = (int(word) for word in EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    if low >= FIRST + LEAST:
        return FIRST, low
    if high + LEAST <= 65536:  # the kernel's range was moved down: use the ports above it
        return high + 1, 65536
    return FIRST, 32768  # it leaves no room: a clash is possible, but then the start fails with an error


def _free(port: int) -> bool:
    """Return whether the port can be bound without SO_REUSEADDR on all addresses. It cannot if any socket is bound to
    it on any address, or while old connections linger. ip(7), socket(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # never listens
        except OSError:
            return False
    return True
