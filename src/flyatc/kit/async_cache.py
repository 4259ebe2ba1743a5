"""Cache for results of expensive lookups: concurrent callers share one lookup, and its result is kept for a while."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from flyatc.kit import tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class AsyncCache(Generic[K, V]):
    """The cache. ``ask`` looks a key up; its errors reach every waiting caller and are not cached. ``keep`` returns for
    how many seconds a value is fresh. ``most``: the number of values kept; the oldest are evicted."""

    def __init__(self, ask: Callable[[K], Awaitable[V]], keep: Callable[[V], float], most: int) -> None:
        self._ask, self._keep, self._most = ask, keep, most
        self._values: dict[K, tuple[V, float]] = {}  # (value, loop time at which it expires), in order of insertion
        self._lookups: dict[K, asyncio.Task[V]] = {}

    def fresh(self, key: K) -> V | None:
        """Return the value if it has not expired, without a lookup."""
        cached = self._values.get(key)
        return cached[0] if cached is not None and cached[1] > asyncio.get_running_loop().time() else None

    def last(self, key: K) -> V | None:
        """Return the last value, expired or not."""
        cached = self._values.get(key)
        return None if cached is None else cached[0]

    async def get(self, key: K) -> V:
        """Return the fresh value, or look it up. Cancelling one caller does not cancel the shared lookup."""
        cached = self._values.get(key)
        if cached is not None and cached[1] > _now():
            return cached[0]
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = tasks.start(self._find(key), f"find out about {key}")
        return await tasks.joined(lookup)

    def clear(self) -> None:
        """Remove all values. Results of lookups in progress are still stored."""
        self._values.clear()

    def drop(self, key: K) -> None:
        """Remove one value. The result of a lookup in progress is still stored."""
        self._values.pop(key, None)

    def put(self, key: K, value: V) -> None:
        """Store a value."""
        self._values.pop(key, None)
        while len(self._values) >= self._most:
            del self._values[next(iter(self._values))]
        self._values[key] = value, _now() + self._keep(value)

    async def _find(self, key: K) -> V:
        try:
            value = await self._ask(key)
        finally:
            del self._lookups[key]
        self.put(key, value)
        return value


def _now() -> float:
    return asyncio.get_running_loop().time()
