"""One life of a tenant, told from top to bottom by one task: what is taken on the way up is given back in reverse.

An app's life takes a place among ``limits.running``, the databases, the app; serves; drains; gives back. A life that
only saves takes the databases and gives them back: it is how unsaved data gets to the store when nobody visits."""

import asyncio
import contextlib
import math
from collections.abc import Callable

from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused
from flyatc.tenants.errors import Failed, Full, NotReadyInTime, Unavailable, Unsafe
from flyatc.tenants.house import House
from flyatc.tenants.lifecycle import RISING, State
from flyatc.tenants.ports import Child, Databases, Gateway
from flyatc.tenants.record import Failure, Record
from flyatc.tenants.standing import Standing
from flyatc.tenants.visitors import Visit, Visitors

FULL_RETRY = 5.0  # seconds; told to whoever found no room
NEWS = 1.0  # seconds; the longest way of the news that an app has ended
LATE = 1.0  # seconds; how much longer than the start a visitor waits, lest tools which are slow to give up hold him


class Life:
    """Begins at once. ``ended`` is called when all was given back; the state is a resting one by then."""

    def __init__(
        self,
        spec: Spec,
        house: House,
        record: Record,
        standing: Standing,
        *,
        quiet: Callable[[], None],
        ended: Callable[[], None],
        saves_only: bool = False,
    ) -> None:
        self.spec, self.saves_only = spec, saves_only
        self.rest = spec.app.idle or math.inf  # seconds without visitors until something is done about it
        self.visitors = Visitors(house.visitors, quiet)
        self.over = asyncio.Event()
        self.databases: Databases | None = None
        self.child: Child | None = None
        self.gateway: Gateway | None = None
        self._house, self._record, self._standing = house, record, standing
        self._quiet, self._ended = quiet, ended
        self._settled = asyncio.Event()  # ready, or surely not to be
        self._refusal: Failure | None = None  # why the visitors who waited for it are not served
        self._asked = asyncio.Event()  # somebody wants it to stop
        self._limit: asyncio.Timeout | None = None  # of the step which may be cut short: the way up, the drain
        self._gives_up_at = self._now() + spec.app.start_timeout
        self._trouble: str | None = None  # what kept the databases from being opened
        if not saves_only:
            record.failure = None
        standing.to(State.OWNING)
        self._task = tasks.start(self._tell(), f"tenant {spec.address}")

    # --- visitors ---

    def visit(self) -> Visit:
        """Only while READY."""
        assert self.gateway is not None
        assert self.child is not None
        self.visitors.come()
        return Visit(self.gateway, self.child.port, self.visitors)

    async def joined(self) -> Visit | None:
        """Waits until it serves; who waits is a visitor. None: it was stopped meanwhile, ask for the next life.

        Raises Unavailable."""
        self.visitors.come()
        try:
            async with asyncio.timeout_at(self._gives_up_at + LATE):
                await self._settled.wait()
            if self._standing.state is State.READY:
                return self.visit()
        except TimeoutError:
            raise NotReadyInTime(self.spec.address, self._late(), LATE) from None
        finally:
            self.visitors.leave()
        if self._refusal is not None:
            raise self._refusal.error(self._now())
        return None

    @property
    def dying(self) -> bool:
        """Its app has ended, though what follows from it may not have begun."""
        return self.child is not None and self.child.exited.is_set()

    async def dies(self, visit: Visit) -> None:
        """The app of this visit took no connection: then it has ended, and the news of that is on its way.

        Raises Failed where it runs on."""
        if self.child is None or self.gateway is not visit.gateway:
            return
        try:
            async with asyncio.timeout(NEWS):
                await self.child.exited.wait()
        except TimeoutError:
            raise Failed(self.spec.address, "the app runs, but takes no connections", NEWS) from None

    # --- being told to stop ---

    def stop(self, why: str) -> None:
        """Decided and marked in one breath; the rest follows. Idempotent. A life that only saves is left to it."""
        if self.saves_only:
            return
        state = self._standing.state
        if state is State.READY:
            self._standing.to(State.DRAINING, why)
        elif state is State.DRAINING:
            self._hasten(self._house.drain_until(self.spec.app))
        elif state in RISING:
            self._hasten(self._now())
        self._asked.set()

    def abandon(self) -> None:
        self._task.cancel()

    def _hasten(self, moment: float) -> None:
        if self._limit is not None and (self._limit.when() or 0.0) > moment:
            with contextlib.suppress(RuntimeError):  # it is expiring just now
                self._limit.reschedule(moment)

    # --- the story ---

    async def _tell(self) -> None:
        unsaved: str | None = "its life was cut short"
        try:
            async with contextlib.AsyncExitStack() as held:
                try:
                    await self._live(held)
                except Exception as error:  # whatever a tool does, it is given back, and the reason is told
                    self._fail(error)
                finally:
                    self._fall()
            unsaved = None
        except Exception as error:
            unsaved = str(error) or repr(error)
        finally:
            self._end(unsaved)

    async def _live(self, held: contextlib.AsyncExitStack) -> None:
        if self._asked.is_set():
            return
        async with asyncio.timeout(self.spec.app.start_timeout) as self._limit:
            await self._rise(held)
        if self.child is None or self._asked.is_set():  # asked in the very turn in which it became ready
            return
        self._open(held, self.child)
        ready_at = self._now()
        await tasks.first_of(self.child.exited.wait(), self._asked.wait())
        self._record.setbacks.survived(self._now() - ready_at)
        if self._standing.state is State.READY:
            self._crashed(self.child)
        else:
            await self._drain(self.child)

    async def _rise(self, held: contextlib.AsyncExitStack) -> None:
        tools = self._house.tools
        if not self.saves_only:
            await held.enter_async_context(self._house.room.place(self.spec.address))
        self._standing.to(State.RESTORING)
        self.databases = await held.enter_async_context(tools.restored(self.spec))
        if self.saves_only:
            return
        self._standing.to(State.STARTING)
        self._record.starts += 1
        self.child = await held.enter_async_context(tools.running(self.spec, self._house.hurry.is_set))
        await self.child.ready()

    def _open(self, held: contextlib.AsyncExitStack, child: Child) -> None:
        self.gateway = self._house.tools.gateway(self.spec, child.port)
        held.callback(self.gateway.close)
        self.visitors.quiet_since = self._now()
        self._standing.to(State.READY)
        self._settled.set()
        if not self.visitors.count:
            self._quiet()

    async def _drain(self, child: Child) -> None:
        assert self.gateway is not None
        self.gateway.drain()
        if not self.visitors.count:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._house.drain_until(self.spec.app)) as self._limit:
                await tasks.first_of(self.visitors.gone(), child.exited.wait(), self._house.hurry.wait())

    # --- what went wrong ---

    def _fail(self, error: Exception) -> None:
        if self._asked.is_set():
            if not isinstance(error, TimeoutError):  # which is how the way up is cut short
                self._tell_trouble("trouble while it was stopped", reason=str(error) or repr(error))
            return
        if self.saves_only:
            self._trouble = str(error) or "its databases could not be opened in time to save them"
            return
        if isinstance(error, TimeoutError) and self._limit is not None and self._limit.expired():
            kind: type[Unavailable] = Full if self._standing.state is State.OWNING else NotReadyInTime
            reason = self._late()
        else:
            kind = Unsafe if isinstance(error, RestoreRefused) else Failed
            reason = str(error) or repr(error)
        self._tell_trouble("the start failed", kind=kind.__name__, reason=reason)
        if kind is Full:
            self._refusal = Failure(Full, self.spec.address, reason, self._now() + FULL_RETRY)
        else:
            self._refuse(kind, reason, self._record.setbacks.start_failed(self._now()))

    def _crashed(self, child: Child) -> None:
        self._record.crashes += 1
        reason = f"the app ended by itself: {child.exit}"
        self._tell_trouble("the app ended by itself", exit=str(child.exit))
        seconds = self._record.setbacks.crashed(self._now())
        if seconds:
            self._refuse(Failed, f"{reason}, again and again", seconds)

    def _refuse(self, kind: type[Unavailable], reason: str, seconds: float) -> None:
        self._refusal = self._record.failure = Failure(kind, self.spec.address, reason, self._now() + seconds)

    def _late(self) -> str:
        if self._standing.state is State.OWNING:
            return f"no place among limits.running became free within {self.spec.app.start_timeout:g} s"
        return f"not ready within start_timeout ({self.spec.app.start_timeout:g} s); it was {self._standing.state}"

    def _tell_trouble(self, message: str, **fields: str) -> None:
        end = self.child.exit if self.child is not None else None
        output = list(end.output) if end is not None else []
        self._house.log.event("error", message, tenant=self.spec.address, output=output, **fields)

    # --- giving back ---

    def _fall(self) -> None:
        """The way down begins. Nobody waits for this life from now on."""
        if self.databases is not None:
            self._standing.to(State.SAVING)
        self._settled.set()

    def _end(self, unsaved: str | None) -> None:
        record = self._record
        if self.child is not None and self.child.exit is not None:
            record.exited(self.child.exit)
        if self.databases is not None:
            record.saved_at = self.databases.saved_at
            self._account(unsaved)
        elif self.saves_only:
            self._account(self._trouble or unsaved)
        self._standing.to(State.FAILED if record.failure is not None else State.STOPPED)
        self.over.set()
        self._ended()

    def _account(self, unsaved: str | None) -> None:
        """``unsaved``: why the store may not have all; None: it has."""
        if unsaved is None:
            self._record.saved()
            return
        self._record.not_saved(unsaved)
        self._house.log.event("error", "not saved: the local copy is kept", tenant=self.spec.address, reason=unsaved)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
