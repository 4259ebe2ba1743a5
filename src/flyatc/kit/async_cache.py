"""Answers to questions that cost something: one asks for all who wait, and what was told is kept for a while."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from flyatc.kit import tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class AsyncCache(Generic[K, V]):
    """``ask`` is called with a key; what it raises reaches all who wait, and is not kept. ``keep``: how many seconds an
    answer is good for. ``most``: answers remembered; the oldest make room."""

    def __init__(self, ask: Callable[[K], Awaitable[V]], keep: Callable[[V], float], most: int) -> None:
        self._ask, self._keep, self._most = ask, keep, most
        self._told: dict[K, tuple[V, float]] = {}  # with the moment until which it is good, in the order of coming
        self._asking: dict[K, asyncio.Task[V]] = {}

    def fresh(self, key: K) -> V | None:
        """Without waiting. None: nothing that is still good."""
        told = self._told.get(key)
        return told[0] if told is not None and told[1] > _now() else None

    def last(self, key: K) -> V | None:
        """However old."""
        told = self._told.get(key)
        return None if told is None else told[0]

    async def get(self, key: K) -> V:
        """Who leaves (cancels) ends his own wait only."""
        told = self._told.get(key)
        if told is not None and told[1] > _now():
            return told[0]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = tasks.start(self._find(key), f"find out about {key}")
        return await tasks.joined(asking)

    def forget(self) -> None:
        """All of it. What is being asked now is kept when it comes."""
        self._told.clear()

    def drop(self, key: K) -> None:
        """The same for one of them."""
        self._told.pop(key, None)

    def learn(self, key: K, value: V) -> None:
        """It was told without being asked for."""
        self._told.pop(key, None)
        while len(self._told) >= self._most:
            del self._told[next(iter(self._told))]
        self._told[key] = value, _now() + self._keep(value)

    async def _find(self, key: K) -> V:
        try:
            value = await self._ask(key)
        finally:
            del self._asking[key]
        self.learn(key, value)
        return value


def _now() -> float:
    return asyncio.get_running_loop().time()
