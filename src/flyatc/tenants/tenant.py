"""One tenant: starts its runs, one at a time, queues requests between runs, and remembers failures and saves."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.kit.durable_files import was_replaced
from flyatc.kit.errors import SaveFailed
from flyatc.tenants import describe, idle
from flyatc.tenants.errors import Elsewhere, NoSuchUser, NotReadyInTime, Removed, Stopping, reason_of
from flyatc.tenants.in_flight import InFlight, InFlightRequest
from flyatc.tenants.interfaces import Databases, Gateway
from flyatc.tenants.run import Run
from flyatc.tenants.run_history import Record, StateTracker
from flyatc.tenants.scheduler import Scheduler
from flyatc.tenants.state import INACTIVE_STATES, JOINABLE_STATES, Purpose, State, Status

T = TypeVar("T")
_READY = State.READY
DOUBT = 0.1  # seconds between two checks of a lease that is in doubt
RETRY = 1.0  # seconds; Retry-After where a retry is expected to work


class Tenant:
    __slots__ = (  # there may be ten thousand at rest
        "__weakref__", "_again", "_alarm", "_between", "_pauses", "_record", "_resumed", "_run", "_scheduler",
        "_tracker", "listed", "removed", "spec",
    )  # fmt: skip

    def __init__(self, spec: Spec, scheduler: Scheduler) -> None:
        self.spec = spec  # of the next run
        self.removed = False
        self.listed = True  # tenants.yaml names its user
        self._scheduler = scheduler
        self._record = Record()
        self._tracker = StateTracker(spec.address, scheduler.log, scheduler.wall)
        self._run: Run | None = None
        self._between = InFlight(scheduler.requests)  # requests that wait for the next run
        self._again = False  # start a new run right after this one
        self._alarm: asyncio.TimerHandle | None = None  # for the next save, or to drop the tenant after its back-off
        self._pauses = asyncio.Lock()  # pauses and stops take turns
        self._resumed: asyncio.Event | None = None  # set at a pause's end; None: not paused

    def __repr__(self) -> str:
        return f"<Tenant {self.spec.address} {self._tracker.state}>"

    # --- for requests ---

    def visit(self) -> InFlightRequest | None:
        """Return a request counted until its ``end()``; None if the app is not warm: then await ``serving``."""
        run = self.warm()
        return None if run is None else run.visit()

    def warm(self) -> Run | None:
        """Return the run whose app may serve a request now, None if there is none. The caller counts the request in
        ``Run.requests``. Cheap: called for each request."""
        run = self._run
        if run is None or self._tracker.state is not _READY or run.lease is None or not run.lease.certain():
            return None
        return run

    def peek(self) -> Gateway | None:
        """Return the gateway of the warm app, or None, without counting a request: does not keep the app running."""
        if self._tracker.state is not State.READY or self._run is None:
            return None
        return self._run.gateway

    async def serving(
        self, instead_of: Gateway | None = None, *, comes_again: bool = False, at_once: bool = False
    ) -> InFlightRequest:
        """Start a cold app, or wait for the start under way. Cancellation ends only the caller's wait.
        ``instead_of``: the gateway of an app that refused a connection. ``comes_again``: see Run.join. ``at_once``:
        ignore a back-off.

        Raises errors.Unavailable: NotReadyInTime, Queued, Full, Failed, Unsafe, Stopping, Removed."""
        if instead_of is not None and self._run is not None:
            await self._run.confirm_exit(instead_of)
        return await self._joined(lambda run: run.join(comes_again=comes_again), Purpose.APP, at_once=at_once)

    async def attached(self) -> Run:
        """Return a run, perhaps without an app, with a command in ``Run.commands``: exit it. Raises as ``serving``."""
        return await self._joined(lambda run: run.commands.attach(run), Purpose.COMMANDS, at_once=True)

    async def _joined(self, join: Callable[[Run], Awaitable[T | None]], purpose: Purpose, *, at_once: bool) -> T:
        while True:
            self._refuse_when_gone()
            if self._resumed is not None:
                await self._wait(self._resumed)
                continue
            run = self._run
            if run is None:
                self.reset_backoff() if at_once else self._refuse_in_backoff()  # of a run that failed meanwhile, too
                run = self._begin(purpose)
            if run.saves_only or run.dying or self._tracker.state not in JOINABLE_STATES:
                await self._wait(run.over)
            elif (joined := await join(run)) is not None:
                return joined
            elif self._run is run:  # its lease is in doubt, or it is over and being released
                await self._wait(run.over, DOUBT if self._tracker.state is State.READY else math.inf)

    async def _wait(self, event: asyncio.Event, at_most: float = math.inf) -> None:
        """Wait for the end of a run or pause: long enough for an orderly stop, ``at_most`` seconds."""
        app = self.spec.app
        self._between.enter()
        try:
            async with asyncio.timeout(min(app.drain_timeout + app.stop_grace + app.start_timeout, at_most)):
                await event.wait()
        except TimeoutError:
            if at_most < math.inf:
                return
            reason = f"still {self._tracker.state}" if self._resumed is None else "paused"
            raise NotReadyInTime(self.spec.address, reason, RETRY) from None
        finally:
            self._between.exit()

    def _refuse_when_gone(self) -> None:
        if self._scheduler.closing:
            raise Stopping(self.spec.address, "the daemon is going away", RETRY)
        if self.removed:
            raise Removed(self.spec.address, "it is no longer configured", RETRY)

    def _refuse_in_backoff(self) -> None:
        failure, now = self._record.failure, asyncio.get_running_loop().time()
        if failure is not None and now < failure.until:
            raise failure.later(now)

    async def look_again(self) -> None:
        """Forget that another machine serves the user: this may be outdated."""
        if self._run is not None and self._tracker.state not in JOINABLE_STATES:
            await self._wait(self._run.over)
        failure = self._record.failure
        if failure is not None and failure.kind in (Elsewhere, NoSuchUser) and self._tracker.state is State.FAILED:
            self._record.failure = None
            self._tracker.change_to(State.STOPPED)

    # --- for operators ---

    async def start(self) -> None:
        """Start the app as a request does, but ignore a back-off. Raises errors.Unavailable."""
        (await self.serving(at_once=True)).end()

    async def stopped(self, why: str) -> None:
        """Stop it and wait for the end. Raises kit.errors.SaveFailed if data is left unsaved."""
        try:
            async with self.paused(why, resume=False):
                pass
        finally:
            self.reset_backoff()

    @contextlib.asynccontextmanager
    async def paused(self, why: str, *, resume: bool = True) -> AsyncIterator[bool]:
        """Drain, save and keep it stopped while requests wait. Yields whether it ran; ``resume``: if so, restart it.

        Raises kit.errors.SaveFailed; then it was not paused."""
        async with self._pauses:
            run = self._run
            ran = run is not None and run.commands.with_app and self._tracker.state in JOINABLE_STATES
            self._resumed = asyncio.Event()
            try:
                await self._emptied(why)
                yield ran
            finally:
                self._resumed.set()
                self._resumed = None
                if self._run is None:
                    self._begin_or_rest(again=ran and resume)

    async def _emptied(self, why: str) -> None:
        record, failed_before = self._record, self._record.failed_saves
        self.stop(why)
        if self._run is not None:
            await self._run.over.wait()
        if record.unsaved is not None and record.failed_saves == failed_before:  # that run did not get to save
            await self._begin(Purpose.SAVE).over.wait()
        if record.unsaved is not None:
            raise SaveFailed(f"{self.spec.address}: {record.unsaved}")

    @property
    def databases(self) -> Databases | None:
        """The databases of a ready app, else None."""
        return self._run.databases if self._run is not None and self._tracker.state is State.READY else None

    def reset_backoff(self) -> None:
        """Forget its failures: they may be fixed."""
        self._record.reset_backoff()
        if self._tracker.state is State.FAILED:
            self._tracker.change_to(State.STOPPED)

    # --- for the fleet ---

    def stop(self, why: str, *, again: bool = False) -> None:
        """Start stopping; does not wait for the end. ``again``: start a new run afterwards."""
        if self._run is not None:
            self._again = again
            self._run.stop(why)

    def respec(self, spec: Spec) -> None:
        """Use ``spec`` from the next run on; a running app is restarted when it is idle."""
        self.removed = False
        if spec == self.spec:
            return
        self.spec = spec
        self.reset_backoff()
        if self._run is not None:
            self._run.idle_after = idle.MOMENT
            self._quiet()

    def remove(self) -> None:
        self.removed = True
        self.stop("it is no longer configured")

    def mark_unsaved(self, why: str) -> None:
        """Note that the local copy has changes that the store lacks."""
        if self._record.unsaved is None:
            self._record.unsaved = reason_of(why, self.spec.address)
        self._scheduler.awake[self.spec.address] = self

    async def rescue(self) -> None:
        """Save unsaved data by a save-only run and wait for its end. A run with an app saves by itself."""
        if self._run is None and self._record.unsaved is not None and self._resumed is None:
            self._begin(Purpose.SAVE)
        if self._run is not None and self._run.saves_only:
            await self._run.over.wait()

    async def closed(self) -> None:
        """Stop and save. A failed save is retried until ``Scheduler.hurry`` is set."""
        hurry = self._scheduler.hurry
        self.stop("the daemon is going away")
        while self._run is not None or self._record.unsaved is not None:
            if self._run is not None:
                await self._run.over.wait()
            else:
                await self.rescue()
            if self._record.unsaved is None or hurry.is_set():
                return
            await tasks.first_of(asyncio.sleep(max(RETRY, self._record.next_save)), hurry.wait())
            if hurry.is_set():
                return

    def abandon(self) -> None:
        if self._run is not None:
            self._run.abandon()

    async def kill_and_wait(self, why: str) -> None:
        """Kill its app because its folder was deleted, and wait for the end of the run."""
        if (run := self._run) is not None:
            run.kill(why)
            await run.over.wait()

    def folder_was_deleted(self, gone: Callable[[Path], bool]) -> bool:
        """Return whether its databases are open here and their folder was deleted, or replaced by another one."""
        run, folder = self._run, self.spec.data
        return run is not None and run.in_use and (gone(folder) or was_replaced(folder, run.inode))

    @property
    def unsettled(self) -> bool:
        if self._tracker.state in INACTIVE_STATES:
            return self._record.unsaved is not None
        return self._tracker.state is not State.READY

    @property
    def at_rest(self) -> bool:
        """True if it has no run and no unsaved data."""
        return self._run is None and self._record.unsaved is None

    # --- runs ---

    def _may_begin(self) -> bool:
        return not self.removed and not self._scheduler.closing and self._record.failure is None

    def _begin(self, purpose: Purpose) -> Run:
        assert self._run is None
        self._set_alarm(None)
        self._scheduler.awake[self.spec.address] = self
        self._run = Run(
            self.spec,
            self._scheduler,
            self._record,
            self._tracker,
            quiet=self._quiet,
            ended=self._run_ended,
            purpose=purpose,
            listed=self.listed,
        )
        return self._run

    def look(self) -> None:
        """Begin to look at the work of its app."""
        if self._run is not None and self._run.watch is not None:
            self._run.watch.look()

    def _quiet(self) -> None:
        if self._run is not None:
            since = max(self._run.requests.quiet_since, self._run.commands.quiet_since)
            self._scheduler.check_idle_at(since + self._run.idle_after)

    def _run_ended(self) -> None:
        self._run = None
        again, self._again = self._again, False
        self._scheduler.collect_garbage()
        self._begin_or_rest(again=again)

    def _begin_or_rest(self, *, again: bool) -> None:
        if again and self._may_begin():
            self._begin(Purpose.APP)
        else:
            self._rest()

    def _rest(self) -> None:
        """Schedule a save of unsaved data, keep the back-off in memory for a while, or let the tenant be dropped."""
        now, record = asyncio.get_running_loop().time(), self._record
        if record.unsaved is not None:
            self._set_alarm(now + record.next_save)
        elif now < record.remembered_until:
            self._set_alarm(record.remembered_until)
        else:
            self._scheduler.awake.pop(self.spec.address, None)

    def _set_alarm(self, moment: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if moment is None else asyncio.get_running_loop().call_at(moment, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        if self._run is not None or self._resumed is not None or self._scheduler.closing:
            return
        if self._record.unsaved is not None:
            self._begin(Purpose.SAVE)
        else:
            self._scheduler.awake.pop(self.spec.address, None)

    # --- status ---

    @property
    def place(self) -> int | None:
        """Place in the queue for limits.starting: 1 is the next."""
        return self._run.place if self._run is not None else None

    def snapshot(self) -> idle.Snapshot:
        return describe.snapshot(self.spec, self._tracker.state, self._run)

    def status(self) -> Status:
        wall, look = self._scheduler.wall(), self.snapshot()
        return describe.status(self.spec, self._record, self._tracker, self._run, look, self._between.count, wall)
