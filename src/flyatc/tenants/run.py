"""One run of a tenant, executed by one task. It releases its resources in the reverse order of their acquisition.

A run of an app acquires a place among ``limits.running``, the lease, the databases and the app; serves; drains;
releases. A save-only run acquires the lease and the databases and releases them: this saves data left unsaved by an
earlier run when there are no requests. If the lease ends, the app is killed at once."""

import asyncio
import contextlib
import functools
from collections.abc import Callable

from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.kit.durable_files import Inode, inode_of
from flyatc.kit.errors import CopyLost, HeldElsewhere, StillRunning
from flyatc.ownership.lease import Lease
from flyatc.tenants import app_start, idle
from flyatc.tenants.commands import Commands
from flyatc.tenants.errors import Failed, Unavailable
from flyatc.tenants.idle_watch import IdleWatch
from flyatc.tenants.in_flight import InFlight, InFlightRequest
from flyatc.tenants.interfaces import Child, Databases, DataWatch, Gateway
from flyatc.tenants.run_history import Record, StateTracker
from flyatc.tenants.run_refusal import RunRefusals
from flyatc.tenants.scheduler import Scheduler
from flyatc.tenants.start_queue import KEPT, StartWait, Turn
from flyatc.tenants.state import JOINABLE_STATES, START_STATES, Purpose, State

NEWS = 1.0  # seconds; the longest delay until the end of an app is noticed


class Run:
    """One run; it starts at once. ``ended`` is called after the release, with the state STOPPED or FAILED."""

    def __init__(
        self,
        spec: Spec,
        scheduler: Scheduler,
        record: Record,
        tracker: StateTracker,
        *,
        quiet: Callable[[], None],
        ended: Callable[[], None],
        purpose: Purpose = Purpose.APP,
        listed: bool = True,
    ) -> None:
        self.spec, self.saves_only = spec, purpose is Purpose.SAVE
        self.newcomer = not listed and not self.saves_only  # set to False once its user proves to be known
        self.idle_after = idle.first_look(spec.app)  # seconds without requests until it is considered for a stop
        self.requests = InFlight(scheduler.requests, quiet)
        self.over = asyncio.Event()
        self.lease: Lease | None = None
        self.databases: Databases | None = None
        self.child: Child | None = None
        self.gateway: Gateway | None = None
        self.watch: IdleWatch | None = None  # of the ready app
        self.data: DataWatch | None = None
        self._scheduler, self._record, self._tracker = scheduler, record, tracker
        self._quiet, self._ended = quiet, ended
        self._waiting = StartWait(spec, lambda: self.requests.count, tracker, self._give_up)
        self._failures = RunRefusals(spec, scheduler.log, record, tracker)
        self._stop_requested = asyncio.Event()  # set by ``stop``
        self.commands = Commands(scheduler, quiet, self._hurried, self._failures, self._joinable, purpose)
        self._limit: asyncio.Timeout | None = None  # of a step that may be cut short: the start, the drain
        self.in_use = False  # its databases are open
        self.inode: Inode | None = None  # of its folder then
        self._killed = self._copy_lost = False
        self._unsaved: str | None = "its run was cut short"  # why the store may lack data; None: it has everything
        if not self.saves_only:
            record.failure = None
        tracker.change_to(State.OWNING)
        self._task = tasks.start(self._main(), f"tenant {spec.address}")

    # --- requests ---

    def visit(self) -> InFlightRequest:
        """Count a request of the ready app. Only while READY."""
        assert self.gateway is not None
        assert self.child is not None
        self.requests.enter()
        return InFlightRequest(self.gateway, self.child.port, self.requests)

    async def join(self, *, comes_again: bool = False) -> InFlightRequest | None:
        """Wait until the app is ready; the wait counts as a request. Returns None if the run was stopped: wait for the
        next one. ``comes_again``: a browser, which reloads the waiting page, so its place in the queue is kept.

        Raises Unavailable."""
        self.requests.enter()
        self.commands.ask_for_app()
        try:
            await self._waiting.wait(self._failures.late)
            if self._tracker.state is State.READY and self.certain:
                return self.visit()
        except Unavailable:
            comes_again = True
            raise
        finally:
            self.requests.exit()
            self._waiting.left(KEPT if comes_again else 0.0)
        if self._failures.refusal is not None:
            raise self._failures.refusal.error(self._now())
        return None

    @property
    def place(self) -> int | None:
        """Place in the queue for limits.starting: 1 is the next."""
        return self._waiting.place

    @property
    def overlooked(self) -> list[str]:
        """Databases that are not saved, a sentence each."""
        return self.data.overlooked if self.data is not None else self._record.overlooked

    @property
    def certain(self) -> bool:
        """True if it may serve now: the lease is valid and not in doubt."""
        return self.lease is not None and self.lease.certain()

    @property
    def dying(self) -> bool:
        """True if its app has ended; the run may not have reacted yet."""
        return self.child is not None and self.child.exited.is_set()

    async def confirm_exit(self, refused: Gateway) -> None:
        """Wait for the end of an app that refused a connection: most likely it has ended and this is not noticed yet.

        Raises Failed if it still runs after NEWS seconds."""
        if self.child is None or self.gateway is not refused:
            return
        try:
            async with asyncio.timeout(NEWS):
                await self.child.exited.wait()
        except TimeoutError:
            reason = self.child.stranger
            if reason is None:
                raise Failed(self.spec.address, "the app runs, but takes no connections", NEWS) from None
            self._failures.log("another process has the app's port", reason=reason)
            self.stop("another process has its port")  # the next run has another one
            raise Failed(self.spec.address, reason, NEWS) from None

    # --- stopping ---

    def stop(self, why: str) -> None:
        """Change the state at once and let the task do the rest. Idempotent. No effect on a save-only run."""
        if self.saves_only:
            return
        state = self._tracker.state
        if state is State.READY:
            self._tracker.change_to(State.DRAINING, why)
        elif state is State.DRAINING:
            self._hasten(self._scheduler.drain_deadline(self.spec.app))
        elif state in START_STATES:
            self._hasten(self._now())
        self._stop_requested.set()

    def _refuse(self, why: str) -> None:
        """End the ready app, and treat it as a failed start."""
        self._failures.log("the app is ended", reason=why)
        self._failures.refuse(Failed, why, self._record.setbacks.start_failed(self._now()))
        self.stop(why)
        self._hasten(self._now())

    def _give_up(self, why: str) -> None:
        self._scheduler.log.event("info", "the start is given up", tenant=self.spec.address, reason=why)
        self.stop(why)

    def abandon(self) -> None:
        self._task.cancel()

    def kill(self, why: str) -> None:
        """End the app and its requests at once: its files were deleted."""
        self._killed = True
        self.stop(why)
        self._hasten(self._now())

    def _hasten(self, moment: float) -> None:
        if self._limit is not None and ((when := self._limit.when()) is None or when > moment):
            with contextlib.suppress(RuntimeError):  # it is expiring just now
                self._limit.reschedule(moment)

    # --- the task ---

    async def _main(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as held:
                try:
                    await self._live(held)
                except Exception as error:  # whatever fails, resources are released and the reason is logged
                    self._fail(error)
                finally:
                    self._begin_release()
        except Exception as error:
            self._copy_lost = isinstance(error, CopyLost)
            self._unsaved = str(error) or repr(error)
        finally:
            self._end()

    async def _live(self, held: contextlib.AsyncExitStack) -> None:
        if self._stop_requested.is_set():
            return
        async with asyncio.timeout(self.spec.app.start_timeout) as self._limit:
            await self._start(held)
        if self.child is None or self._stop_requested.is_set():  # stopped as it became ready
            return
        self._open(held, self.child)
        ready_at = self._now()
        await tasks.first_of(self.child.exited.wait(), self._stop_requested.wait())
        self._record.setbacks.survived(self._now() - ready_at)
        if self._tracker.state is State.READY:
            self._failures.crashed(self.child)
        else:
            await self._drain(self.child)

    async def _start(self, held: contextlib.AsyncExitStack) -> None:
        tools, places, newcomers = self._scheduler.tools, self._scheduler.running_limit, self._scheduler.newcomers
        if self.newcomer:
            self.newcomer = await newcomers.is_one(self.spec, crowded=places.full)
        with newcomers.counted(self):
            if not self.saves_only:
                await held.enter_async_context(places.place(self.spec.address, newcomer=self.newcomer))
            self._failures.has_place = True
            self.lease = await held.enter_async_context(tools.lease(self.spec))
            self.newcomer = self.newcomer and not self.lease.known
            if self._record.epoch is not None and not self.lease.last_writer(self._record.epoch):
                self._forget_responses()  # another machine has had the user since
            self._record.epoch = self.lease.epoch
        held.callback(tasks.start(self._watch(self.lease), f"owner of {self.spec.address}").cancel)
        self._tracker.change_to(State.RESTORING)
        held.push(self._databases_left)
        self.databases = await held.enter_async_context(tools.restored(self.spec, self.lease))
        self.inode, self.in_use = inode_of(self.spec.data), True
        held.push_async_callback(self.commands.end)
        self.commands.opened.set()
        assert self._limit is not None
        if self.saves_only or not await self.commands.app_wanted(self._tracker, self._waiting, self._limit):
            return
        with self._scheduler.starts.turn(newcomer=self.newcomer) as turn:
            await self._waiting.queue(turn, self._limit)
            self.data = await held.enter_async_context(tools.watched(self.spec, self._refuse))
            if self.spec.app.before_start:
                await self._prepare(held, turn, self._limit)
            self._tracker.change_to(State.STARTING)
            self._record.starts += 1
            run = functools.partial(tools.running, self.spec, self._hurried)
            await app_start.start(self.spec.address, run, turn, held, self._begun, self._scheduler.log)

    def _begun(self, child: Child) -> None:
        self.child = self._failures.child = child

    async def _prepare(self, held: contextlib.AsyncExitStack, turn: Turn, limit: asyncio.Timeout) -> None:
        self._tracker.change_to(State.PREPARING)
        try:
            with self._waiting.suspended(limit):
                await self._scheduler.tools.prepared(self.spec, self._hurried, turn.watched)
        except StillRunning as error:
            app_start.raise_at_release(error, held)
            raise

    def _open(self, held: contextlib.AsyncExitStack, child: Child) -> None:
        assert self.lease is not None
        assert self.databases is not None
        self.gateway = self._scheduler.tools.gateway(self.spec, child, self.lease.valid)
        held.callback(self.gateway.close)
        self.watch = IdleWatch(self.spec, child, self.databases, self.requests, self._scheduler, self._quiet)
        held.callback(self.watch.close)
        self.requests.quiet_since = self._now()
        self._tracker.change_to(State.READY)
        self._waiting.settled.set()
        if self.data is not None:
            self.data.begin(child)
        if not self.requests.count:
            self._quiet()

    async def _drain(self, child: Child) -> None:
        assert self.gateway is not None and self.lease is not None  # noqa: PT018
        self.gateway.drain()
        if not self.requests.count or self._hurried() or self._failures.refusal is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._scheduler.drain_deadline(self.spec.app)) as self._limit:
                ends = child.exited.wait(), self._scheduler.hurry.wait(), self.lease.ended.wait()
                await tasks.first_of(self.requests.wait_until_zero(), *ends)

    async def _watch(self, lease: Lease) -> None:
        await lease.ended.wait()
        what = "this machine may not write any more"
        self._scheduler.log.event("error", f"{what}: the app is killed", tenant=self.spec.address, reason=lease.why)
        self._forget_responses()
        self.stop(what)

    def _joinable(self) -> bool:
        return self.in_use and self.certain and self._tracker.state in JOINABLE_STATES

    def _hurried(self) -> bool:
        return self._scheduler.hurry.is_set() or self._killed or (self.lease is not None and self.lease.ended.is_set())

    def _forget_responses(self) -> None:
        """Have the cached responses dropped: another machine may respond differently from now on."""
        if self._record.epoch is not None:
            self._scheduler.tools.forget(self.spec)
            self._record.epoch = None

    # --- failures ---

    def _fail(self, error: Exception) -> None:
        if self._stop_requested.is_set():
            return self._failures.stopped(error)
        if isinstance(error, HeldElsewhere):
            self._forget_responses()
            if error.settled:
                self._record.saved()
        if self.saves_only:
            why = str(error) or "its databases could not be opened in time to save them"
            self._unsaved = None if isinstance(error, HeldElsewhere) and error.settled else why
            return
        late = isinstance(error, TimeoutError) and self._limit is not None and self._limit.expired()
        self._failures.start_failed(error, late=late)

    # --- release ---

    def _begin_release(self) -> None:
        """Begin the release and wake the requests that wait for this run."""
        if self.databases is not None:
            self._tracker.change_to(State.SAVING)
        self._waiting.settled.set()
        self.commands.opened.set()

    def _databases_left(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.in_use = False
        self._unsaved = None if error is None and self.databases is not None else self._unsaved

    def _end(self) -> None:
        record = self._record
        if self.child is not None and self.child.exit is not None:
            record.exited(self.child.exit)
        if self.databases is not None:
            record.saved_at = self.databases.saved_at
            record.renewed.update(self.databases.renewed)
            record.overlooked = self.overlooked
        if self.databases is not None or self.saves_only:
            self._failures.saved(self._unsaved, lost=self._copy_lost)
        self._tracker.change_to(State.FAILED if record.failure is not None else State.STOPPED)
        self.over.set()
        self._ended()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
