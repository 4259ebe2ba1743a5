"""What is counted, as plain numbers: adding to them costs next to nothing, and /metrics reads them when asked."""

from dataclasses import dataclass, field

MOST_SERIES = 20_000


@dataclass(slots=True)
class Counters:
    """Since the start of the daemon. ``tenant`` is an address, or "" where there was none."""

    requests: dict[tuple[str, int], int] = field(default_factory=dict)  # (tenant, status) → number
    seconds: float = 0.0  # spent on requests, in all
    octets: int = 0  # sent to visitors, with heads
    in_flight: int = 0
    tunnels: int = 0  # open now
    cold: int = 0  # requests which waited for a start
    cold_seconds: float = 0.0
    cache: dict[str, int] = field(default_factory=dict)  # what became of requests before the cache → number
    cache_octets: int = 0  # memory of what is stored now
    cache_entries: int = 0
    refused: int = 0  # what was no request: 400, 408, 413, 431 before a handler saw it

    def count(self, tenant: str, status: int) -> None:
        key = (tenant, status)
        number = self.requests.get(key)
        if number is None and len(self.requests) >= MOST_SERIES:
            key = ("~others", status)  # users by pattern are without number: memory is not
            number = self.requests.get(key)
        self.requests[key] = (number or 0) + 1
