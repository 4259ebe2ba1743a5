"""Looks at the work of one running app that is due to be stopped. ``idle`` says when, ``background_work`` judges."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import time

from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.observe.log import EventLog
from flyatc.tenants import idle
from flyatc.tenants.background_work import Facts, last_background_work
from flyatc.tenants.in_flight import InFlight
from flyatc.tenants.interfaces import Child, Databases
from flyatc.tenants.scheduler import Scheduler

PATIENCE = 10.0  # s; for one look
SLACK = 0.001  # s; a timer may fire a little early
BEGUN_EARLY = 0.02  # s; the kernel's tick: the first request may begin a thread at once
BEGUN_LATE = 1.0  # s after the end of the last request within which a thread may still have been begun by it


class IdleWatch:
    """``seen`` is for the next sweep. ``quiet`` is called when it has changed."""

    def __init__(
        self,
        spec: Spec,
        child: Child,
        databases: Databases,
        requests: InFlight,
        scheduler: Scheduler,
        quiet: Callable[[], None],
    ) -> None:
        app = spec.app
        self.seen = idle.Seen(counts=idle.counts_work(app), most=app.idle_most or float("inf"))
        self._spec, self._child, self._databases, self._requests = spec, child, databases, requests
        self._scheduler, self._quiet = scheduler, quiet
        self._log: EventLog = scheduler.log
        self._first: Facts | None = None
        self._began = self._now()
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Begin a look; it ends by calling ``quiet``."""
        if not self.seen.looking:
            self.seen = replace(self.seen, looking=True)
            self._task = tasks.start(self._look(), f"look at {self._spec.address}")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._scheduler.working.discard(self._spec.address)

    async def _look(self) -> None:
        since = max(self._requests.quiet_since, self.seen.active_at)
        try:
            async with asyncio.timeout(PATIENCE):
                facts = await self._facts()
        except (TimeoutError, OSError) as error:  # then only requests count
            self._log.event(
                "warning", "its work cannot be seen", tenant=self._spec.address, reason=str(error) or "it took too long"
            )
            facts = None
        self.seen = self._judged(facts, since)
        if self.seen.reason is None:
            self._scheduler.working.discard(self._spec.address)
        else:
            self._scheduler.working.add(self._spec.address)
        self._quiet()

    async def _facts(self) -> Facts:
        now = self._now()
        quiet = now - self._requests.quiet_since if not self._requests.count else 0.0
        work = await self._child.work(oldest=now - self._began + BEGUN_EARLY, youngest=max(0.0, quiet - BEGUN_LATE))
        changed = self._databases.changed
        at = self._now()
        return Facts(at, work, None if changed is None else (changed[0], at - max(0.0, time() - changed[1])))

    def _judged(self, facts: Facts | None, since: float) -> idle.Seen:
        seen = replace(self.seen, looking=False)
        if facts is None:
            return replace(seen, quiet_at=self._now() + SLACK, first_at=self._now(), reason=None)
        first = self._first
        if first is None or first.at < since:
            self._first = facts
            return replace(seen, first_at=facts.at)
        active = last_background_work(self._spec.app.idle_counts, first, facts, since)
        if active is None:
            return replace(seen, quiet_at=facts.at + SLACK, reason=None)
        if seen.reason is None:
            self._log.event("info", "kept running without requests", tenant=self._spec.address, why=active.reason)
        self._first = facts
        return replace(seen, first_at=facts.at, active_at=active.at, reason=active.reason)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
