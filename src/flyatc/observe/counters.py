"""Counters as plain numbers: incrementing is cheap, and /metrics reads them on request."""

from dataclasses import dataclass, field

MOST_SERIES = 20_000


@dataclass(slots=True)
class Counters:
    """Counts since the start of the daemon. ``tenant`` is an address, or "" if there is none."""

    requests: dict[tuple[str, int], int] = field(default_factory=dict)  # (tenant, status) → number
    seconds: float = 0.0  # total time of all requests
    sent_bytes: int = 0  # sent to clients, including heads
    in_flight: int = 0
    tunnels: int = 0  # open now
    cold: int = 0  # requests that waited for a cold start
    cold_seconds: float = 0.0
    cache: dict[str, int] = field(default_factory=dict)  # cache outcome → number of requests
    cache_bytes: int = 0  # memory used by the cache now
    cache_entries: int = 0
    refused: int = 0  # malformed requests: 400, 408, 413, 431 before the handler

    def count(self, tenant: str, status: int) -> None:
        key = (tenant, status)
        number = self.requests.get(key)
        if number is None and len(self.requests) >= MOST_SERIES:
            key = ("~others", status)  # the users of a pattern are unlimited, memory is not
            number = self.requests.get(key)
        self.requests[key] = (number or 0) + 1
