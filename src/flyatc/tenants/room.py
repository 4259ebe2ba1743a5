"""``limits.running``: how many apps may run at the same time. Who finds no place waits in a line."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class _Waiter:
    turn: asyncio.Future[None]
    tenant: str
    newcomer: bool


class Room:
    """``leaving``: how many places are about to be given back. ``evict``: asks an idle app to leave, for a newcomer or
    not; says whether. Newcomers wait behind all others, and evict nobody but newcomers: see ``idle.to_evict``.

    Both act at once, without awaiting, so that what was decided is still true when it is done."""

    def __init__(self, limit: int, leaving: Callable[[], int], evict: Callable[[bool], bool]) -> None:
        self._limit, self._leaving, self._evict = limit, leaving, evict
        self.inside: set[str] = set()  # the tenants which have a place
        self._line: deque[_Waiter] = deque()

    @contextlib.asynccontextmanager
    async def place(self, tenant: str, *, newcomer: bool = False) -> AsyncIterator[None]:
        """A place, first come, first served. The wait has no end of its own: the caller's timeout ends it."""
        if self.full:
            await self._wait(tenant, newcomer)
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
        others = sum(not one.newcomer for one in self._line)
        for needed, newcomer in ((others, False), (len(self._line), True)):
            while needed + len(self.inside) - self._limit > self._leaving():
                if not self._evict(newcomer):
                    break

    @property
    def full(self) -> bool:
        """Whether who comes now has to wait."""
        return bool(self._line) or len(self.inside) >= self._limit

    @property
    def crowded(self) -> bool:
        return bool(self._line) or len(self.inside) > self._limit

    async def _wait(self, tenant: str, newcomer: bool) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tenant, newcomer)
        turn = waiter.turn
        self._line.append(waiter)
        self.clear()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # seated and told to go in the same turn of the loop
                self.inside.remove(tenant)
                self._seat()
            else:
                with contextlib.suppress(ValueError):
                    self._line.remove(waiter)
            raise

    def _seat(self) -> None:
        while self._line and len(self.inside) < self._limit:
            waiter = next((one for one in self._line if not one.newcomer), self._line[0])
            self._line.remove(waiter)
            if not waiter.turn.done():  # done: cancelled, and its task has not run since
                self.inside.add(waiter.tenant)
                waiter.turn.set_result(None)
