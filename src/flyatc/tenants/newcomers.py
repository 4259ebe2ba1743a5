"""Rate limits for users of which nothing is known yet."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from flyatc.config.schema import Tenant
from flyatc.kit.timing import TokenBucket

Known = Callable[[Tenant], Awaitable[bool]]


class TooManyNewcomers(Exception):
    def __str__(self) -> str:
        return "requests for unknown users come faster than such users are started"


class Start(Protocol):
    newcomer: bool  # set to False once its user proves to be known


class Newcomers:
    """Rate limits for users without an entry in tenants.yaml, a lease record or data: of starts and lookups. Anyone can
    invent user names, and each start costs a place, a process and a write to the store.

    ``known`` returns whether a user has data or a lease; None: every user has."""

    def __init__(self, known: Known | None) -> None:
        self._known = known
        self._starts = TokenBucket(at_once=100, a_second=5, under_way=100)
        self._looks = TokenBucket(at_once=500, a_second=50, under_way=50)  # the store also serves other users

    async def is_one(self, user_of: Tenant, *, crowded: bool) -> bool:
        """Return whether to treat the tenant as a newcomer. Looks its user up only if all places are taken
        (``crowded``) or newcomers exceed their rate; otherwise, or beyond the rate of lookups, returns True."""
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
        """Count a newcomer while it waits for its place and its lease. Raises TooManyNewcomers."""
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
