"""The commands of operators (``flyatc exec``) in one run: beside its app, or before a request wants the app."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.kit.errors import StillRunning
from flyatc.kit.streams import Streams
from flyatc.kit.types import Exit
from flyatc.tenants.in_flight import InFlight
from flyatc.tenants.interfaces import Child
from flyatc.tenants.run_history import StateTracker
from flyatc.tenants.run_refusal import RunRefusals
from flyatc.tenants.scheduler import Scheduler
from flyatc.tenants.start_queue import StartWait
from flyatc.tenants.state import Purpose, State

R = TypeVar("R")
Until = Callable[[Child], Coroutine[Any, Any, None]]


class Ended(NamedTuple):
    """The end of a command. ``cut``: it was ended, as its run ended. ``exit`` None: unknown."""

    exit: Exit | None
    cut: bool


class Commands(InFlight):
    """Counts the commands, from the wait for the databases on: while there are any, the run is not idle.

    ``hurried``: as for Tools.running. ``joinable``: a command may begin now. ``opened``: set when the databases are
    open, or never will be."""

    def __init__(
        self,
        scheduler: Scheduler,
        quiet: Callable[[], None],
        hurried: Callable[[], bool],
        failures: RunRefusals,
        joinable: Callable[[], bool],
        purpose: Purpose,
    ) -> None:
        super().__init__(scheduler.requests, quiet)
        self._tool, self._hurried, self._failures, self._joinable = scheduler.tools.command, hurried, failures, joinable
        self._app = purpose is Purpose.APP
        self.opened, self._asked, self._ending = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._none = asyncio.Event()
        self._children = InFlight()
        self._survived: StillRunning | None = None

    def exit(self) -> None:
        super().exit()
        if not self.count:
            self._none.set()

    @property
    def with_app(self) -> bool:
        """True if the run has started its app, or will."""
        return self._app or self._asked.is_set()

    def ask_for_app(self) -> None:
        """Note that a request wants the app."""
        self._asked.set()

    async def attach(self, run: R) -> R | None:
        """Count a command, once the databases are open, and return ``run``; None if it ends. Raises Unavailable if the
        run was begun for commands: why another one failed says nothing of this one."""
        self.enter()
        attached = False
        try:
            await self.opened.wait()
            attached = self._joinable()
        finally:
            if not attached:
                self.exit()
        if not attached and not self._app and self._failures.refusal is not None:
            raise self._failures.refusal.error(asyncio.get_running_loop().time())
        return run if attached else None

    async def app_wanted(self, tracker: StateTracker, wait: StartWait, limit: asyncio.Timeout) -> bool:
        """Wait while there are only commands. Return whether the app is to be started. ``limit``: of the start, which
        is suspended meanwhile."""
        if self._app:
            return True
        tracker.change_to(State.EXECUTING)
        with wait.suspended(limit):
            while self.count and not self._asked.is_set():
                self._none.clear()
                await tasks.first_of(self._none.wait(), self._asked.wait())
        return self._asked.is_set()

    async def execute(self, spec: Spec, streams: Streams, until: Until) -> Ended:
        """Run the command of ``spec``, which is counted, to its end, or until ``until(child)`` or the run ends; then
        all its processes are ended. Raises StartFailed; StillRunning if one cannot be ended."""
        assert self._tool is not None
        if self._ending.is_set():
            return Ended(None, cut=True)
        self._children.enter()
        try:
            async with self._tool(spec, self._hurried, streams) as child:
                await tasks.first_of(child.exited.wait(), self._ending.wait(), until(child))
                cut = not child.exited.is_set()
        except StillRunning as error:
            self._survived = error
            raise
        finally:
            self._children.exit()
        return Ended(child.exit, cut)

    async def end(self) -> None:
        """End all commands, before the databases are saved for the last time. Raises StillRunning."""
        self._ending.set()
        await self._children.wait_until_zero()
        if self._survived is not None:
            raise self._survived
