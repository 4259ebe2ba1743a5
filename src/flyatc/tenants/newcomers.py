"""Users that tenants.yaml does not name and of whom nothing is on record: how many of them are started.

Names cost nothing to whoever makes them up, and each start costs a place, a process and a write to the store. Users
with something on record are not bounded, however many come at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from flyatc.config.schema import Tenant
from flyatc.kit.token_bucket import TokenBucket

Known = Callable[[Tenant], Awaitable[bool]]


class TooManyNewcomers(Exception):
    def __str__(self) -> str:
        return "more users of whom nothing is on record are asked for than are started"


class Start(Protocol):
    newcomer: bool  # until it turns out that something is on record of its user


class Newcomers:
    """``known``: whether anything is on record of a user; None: of everybody."""

    def __init__(self, known: Known | None) -> None:
        self._known = known
        self._starts = TokenBucket(at_once=100, a_second=5, under_way=100)
        self._looks = TokenBucket(at_once=500, a_second=50, under_way=50)  # the store is needed for others too

    async def is_one(self, user_of: Tenant, *, crowded: bool) -> bool:
        """Whether it is to be treated as a newcomer. The store is asked only where that matters: it is ``crowded``, or
        there are too many."""
        if self._known is None:
            return False
        if (not crowded and self._starts.allows(_now())) or not self._looks.allows(_now()):
            return True
        self._looks.enter(_now())
        found = False
        try:
            found = await self._known(user_of)
        finally:
            self._looks.exit(known=found)
        return not found

    @contextlib.contextmanager
    def counted(self, start: Start) -> Iterator[None]:
        """While it takes its place and its user. Raises TooManyNewcomers."""
        if not start.newcomer:
            yield
            return
        if not self._starts.allows(_now()):
            raise TooManyNewcomers
        self._starts.enter(_now())
        try:
            yield
        finally:
            self._starts.exit(known=not start.newcomer)


def _now() -> float:
    return asyncio.get_running_loop().time()
