"""Counters as plain numbers: incrementing is cheap, and /metrics and flyatc cost read them on request."""

from dataclasses import dataclass, field

MOST_SERIES = 20_000
OTHERS = "~others"
MOST_TIMED = 512  # tenants
DURATIONS = tuple(2 ** (step / 4) / 4000 for step in range(86))  # s; bounds of ``times``: 0.25 ms to ten minutes
FAILED = len(DURATIONS) + 1  # index of the responses with 5xx in ``times``


@dataclass(slots=True)
class Counters:
    """Counts since the start of the daemon. ``tenant`` is an address, or "" if there is none."""

    requests: dict[tuple[str, int], int] = field(default_factory=dict)  # (tenant, status) → number
    sent: dict[str, int] = field(default_factory=dict)  # tenant → bytes sent to clients, including heads
    times: dict[str, list[int]] = field(default_factory=dict)  # tenant → see ``timed``; observe.activity reads them
    seconds: float = 0.0  # total time of all requests
    in_flight: int = 0
    tunnels: int = 0  # open now
    cold: int = 0  # requests that waited for a cold start
    cold_seconds: float = 0.0
    cache: dict[str, int] = field(default_factory=dict)  # cache outcome → number of requests
    cache_bytes: int = 0  # memory used by the cache now
    cache_entries: int = 0
    refused: int = 0  # malformed requests: 400, 408, 413, 431 before the handler

    def count(self, tenant: str, status: int, sent: int) -> None:
        key = (tenant, status)
        number = self.requests.get(key)
        if number is None and len(self.requests) >= MOST_SERIES:
            key = (OTHERS, status)  # the users of a pattern are unlimited, memory is not
            number = self.requests.get(key)
        self.requests[key] = (number or 0) + 1
        self.sent[key[0]] = self.sent.get(key[0], 0) + sent

    def timed(self, tenant: str) -> list[int]:
        """The responses of a tenant since the last ``forget_times`` by duration: item n counts those above
        DURATIONS[n - 1] up to DURATIONS[n], and item FAILED those with 5xx once more."""
        if tenant not in self.times and len(self.times) >= MOST_TIMED:
            tenant = OTHERS
        return self.times.setdefault(tenant, [0] * (FAILED + 1))

    def forget_times(self) -> None:
        """Begin anew with ``times``, which were read."""
        self.times = {}

    @property
    def sent_bytes(self) -> int:
        return sum(self.sent.values())


MOST_USERS = 2_000


@dataclass(slots=True)
class Calls:
    """``writes``, ``reads``: requests to the store, by the classes of their price; ``uploaded``: bytes."""

    writes: int = 0
    reads: int = 0
    uploaded: int = 0


class StoreCalls:
    """Requests to the store that had a result, by user; "" if a key belongs to none. Others cost nothing."""

    def __init__(self) -> None:
        self._users: dict[str, Calls] = {}

    def count(self, key: str, *, writes: int = 0, reads: int = 0, uploaded: int = 0) -> None:
        """``key``: ``users/NAME/…``, possibly below a prefix."""
        _, found, rest = f"/{key}".partition("/users/")
        user = rest.partition("/")[0] if found else ""
        if user not in self._users and len(self._users) >= MOST_USERS:
            user = OTHERS
        calls = self._users.setdefault(user, Calls())
        calls.writes += writes
        calls.reads += reads
        calls.uploaded += uploaded

    def take(self) -> dict[str, Calls]:
        """Return the counts since the last call."""
        taken, self._users = self._users, {}
        return taken
