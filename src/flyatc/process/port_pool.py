"""Ports on 127.0.0.1 for the children."""

import random
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from flyatc.kit.errors import StartFailed

FIRST = 20000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
CONTESTED = 60.0  # s; how long a port that another process has taken is not handed out
LEAST = 1000  # a range smaller than this is not worth having


class PortPool:
    """Hands out ports below those which the kernel gives to outgoing connections: a port that was free a moment ago
    could otherwise be any client's before the child binds it. One after the other from a random start, so that a port
    that was given back rests (its last connections are in TIME_WAIT) and two daemons rarely meet."""

    def __init__(
        self, first: int | None = None, end: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """``end`` is the first port that is not ours. By default what the kernel's own range leaves above 20000."""
        default = _range()
        self._first, self._end = first or default[0], end or default[1]
        self._next = random.randrange(self._first, self._end)  # noqa: S311  # spread, not secrecy
        self._taken: set[int] = set()
        self._contested: dict[int, float] = {}  # until when
        self._clock = clock

    def take(self) -> int:
        """A port that is not handed out, and that nobody uses. Raises StartFailed where there is none."""
        for _ in range(self._end - self._first):
            port = self._next
            self._next = port + 1 if port + 1 < self._end else self._first
            if port not in self._taken and not self._resting(port) and _free(port):
                self._taken.add(port)
                return port
        raise StartFailed(
            f"no port between {self._first} and {self._end - 1} is free for another app: "
            "lower limits.running, or end what uses them"
        )

    @property
    def taken(self) -> int:
        """How many are handed out."""
        return len(self._taken)

    def give_back(self, port: int, *, contested: bool = False) -> None:
        """``contested``: another process has taken it; it is set aside for CONTESTED seconds."""
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
    if high + LEAST <= 65536:  # somebody moved the kernel's range down: above it, then
        return high + 1, 65536
    return FIRST, 32768  # it is everywhere: a clash is possible, but the start would say so


def _free(port: int) -> bool:
    """Bound without SO_REUSEADDR and on all addresses: fails if anybody listens or is bound anywhere, and while old
    connections linger. ip(7), socket(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # never listens
        except OSError:
            return False
    return True
