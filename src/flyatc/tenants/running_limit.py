"""The limit of apps that run at once (limits.running), with a queue and eviction."""

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


class RunningLimit:
    """Semaphore for ``limits.running`` with a queue and eviction of idle apps.

    ``leaving`` returns the number of places about to be released. ``evict`` stops an idle app, for a newcomer or not,
    and returns whether there was one. Newcomers queue behind all others and evict only newcomers: see
    ``idle.tenant_to_evict``. Both callbacks act without awaiting, so that a decision is still valid when it is
    executed."""

    def __init__(self, limit: int, leaving: Callable[[], int], evict: Callable[[bool], bool]) -> None:
        self._limit, self._leaving, self._evict = limit, leaving, evict
        self.inside: set[str] = set()  # the tenants that have a place
        self._line: deque[_Waiter] = deque()

    @contextlib.asynccontextmanager
    async def place(self, tenant: str, *, newcomer: bool = False) -> AsyncIterator[None]:
        """Hold a place, in the order of arrival. The wait has no timeout of its own."""
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
        self.evict_for_waiters()

    def evict_for_waiters(self) -> None:
        """Evict as many idle apps as are needed. Must be called whenever an app may have become idle."""
        others = sum(not one.newcomer for one in self._line)
        for needed, newcomer in ((others, False), (len(self._line), True)):
            while needed + len(self.inside) - self._limit > self._leaving():
                if not self._evict(newcomer):
                    break

    @property
    def full(self) -> bool:
        """True if a new tenant has to wait."""
        return bool(self._line) or len(self.inside) >= self._limit

    @property
    def crowded(self) -> bool:
        return bool(self._line) or len(self.inside) > self._limit

    async def _wait(self, tenant: str, newcomer: bool) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tenant, newcomer)
        turn = waiter.turn
        self._line.append(waiter)
        self.evict_for_waiters()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # granted and cancelled in the same loop iteration
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
            if not waiter.turn.done():  # done: cancelled, but its task has not run since
                self.inside.add(waiter.tenant)
                waiter.turn.set_result(None)
