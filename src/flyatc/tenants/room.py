"""``limits.running``: how many apps may run at the same time. Who finds no place waits in a line."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable


class Room:
    """``leaving``: how many places are about to be given back. ``evict``: asks an idle app to leave; says whether.

    Both act at once, without awaiting, so that what was decided is still true when it is done."""

    def __init__(self, limit: int, leaving: Callable[[], int], evict: Callable[[], bool]) -> None:
        self._limit, self._leaving, self._evict = limit, leaving, evict
        self.inside: set[str] = set()  # the tenants which have a place
        self._line: deque[tuple[asyncio.Future[None], str]] = deque()

    @contextlib.asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """A place, first come, first served. The wait has no end of its own: the caller's timeout ends it."""
        if self._line or len(self.inside) >= self._limit:
            await self._wait(tenant)
        else:
            self.inside.add(tenant)
        try:
            yield
        finally:
            self.inside.remove(tenant)
            self._seat()

    def resize(self, limit: int) -> None:
        self._limit = limit
        self._seat()
        self.clear()

    def clear(self) -> None:
        """Evicts as many idle apps as are needed. To be called whenever an app may have become idle."""
        while len(self._line) + len(self.inside) - self._limit > self._leaving():
            if not self._evict():
                return

    @property
    def crowded(self) -> bool:
        return bool(self._line) or len(self.inside) > self._limit

    async def _wait(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((turn, tenant))
        self.clear()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # seated and told to go in the same turn of the loop
                self.inside.remove(tenant)
                self._seat()
            else:
                with contextlib.suppress(ValueError):
                    self._line.remove((turn, tenant))
            raise

    def _seat(self) -> None:
        while self._line and len(self.inside) < self._limit:
            turn, tenant = self._line.popleft()
            if not turn.done():  # done: cancelled, and its task has not run since
                self.inside.add(tenant)
                turn.set_result(None)
