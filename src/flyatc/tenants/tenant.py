"""One tenant: who may begin a life, who waits for which, and what is remembered in between. One life at a time."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

from flyatc.config.schema import Tenant as Spec
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed
from flyatc.observe.log import stamp
from flyatc.tenants import idle
from flyatc.tenants.errors import NotReadyInTime, Removed, Stopping
from flyatc.tenants.house import House
from flyatc.tenants.life import Life
from flyatc.tenants.lifecycle import LEAVING, RESTING, WELCOMING, State
from flyatc.tenants.ports import Databases, Gateway
from flyatc.tenants.record import Record
from flyatc.tenants.standing import Standing
from flyatc.tenants.status import Status
from flyatc.tenants.visitors import Visit, Visitors

RETRY = 1.0  # seconds; told to visitors whom a later try will serve


class Tenant:
    def __init__(self, spec: Spec, house: House) -> None:
        self.spec = spec  # what the next life will be like
        self.removed = False
        self._house = house
        self._record = Record()
        self._standing = Standing(spec.address, house.log, house.wall)
        self._life: Life | None = None
        self._between = Visitors(house.visitors)  # those who wait for the next life
        self._again = False  # a new life is to follow this one at once
        self._alarm: asyncio.TimerHandle | None = None  # for the next save, or the end of a back-off
        self._pauses = asyncio.Lock()  # one pause at a time
        self._resumed: asyncio.Event | None = None  # set at a pause's end; None: not paused

    def __repr__(self) -> str:
        return f"<Tenant {self.spec.address} {self._standing.state}>"

    # --- for visitors ---

    def visit(self) -> Visit | None:
        """At once, and counted until ``Visit.end()``; None where it is not warm: then ask ``serving``."""
        if self._standing.state is not State.READY or self._life is None:
            return None
        return self._life.visit()

    def peek(self) -> Gateway | None:
        """The warm app, without being a visitor: keeps nothing awake."""
        if self._standing.state is not State.READY or self._life is None:
            return None
        return self._life.gateway

    async def serving(self) -> Visit:
        """Starts a cold app, or waits for one which starts already. Who leaves (cancels) ends his own wait only.

        Raises errors.Unavailable: NotReadyInTime, Full, Failed, Unsafe, Stopping, Removed."""
        while True:
            self._refuse_when_gone()
            if self._resumed is not None:
                await self._wait(self._resumed)
                continue
            life = self._life
            if life is None:
                self._refuse_in_backoff()
                life = self._begin()
            if life.saves_only or self._standing.state not in WELCOMING:
                await self._wait(life.over)
            elif (visit := await life.joined()) is not None:
                return visit

    async def _wait(self, event: asyncio.Event) -> None:
        """For the end of what stands between us and the next life. Long enough for an orderly end, never for ever."""
        app = self.spec.app
        self._between.come()
        try:
            async with asyncio.timeout(app.drain_timeout + app.stop_grace + app.start_timeout):
                await event.wait()
        except TimeoutError:
            reason = f"still {self._standing.state}" if self._resumed is None else "paused"
            raise NotReadyInTime(self.spec.address, reason, RETRY) from None
        finally:
            self._between.leave()

    def _refuse_when_gone(self) -> None:
        if self._house.closing:
            raise Stopping(self.spec.address, "the daemon is going away", RETRY)
        if self.removed:
            raise Removed(self.spec.address, "it is no longer configured", RETRY)

    def _refuse_in_backoff(self) -> None:
        failure, now = self._record.failure, asyncio.get_running_loop().time()
        if failure is not None and now < failure.until:
            raise failure.later(now)

    # --- for operators ---

    async def start(self) -> None:
        """Like a visitor, but in spite of a back-off. Raises errors.Unavailable."""
        self.forgive()
        (await self.serving()).end()

    async def stopped(self, why: str) -> None:
        """Stops it, and returns when it is over. Raises kit.errors.SaveFailed where something is left unsaved."""
        self.stop(why)
        self._again = False
        if self._life is not None:
            await self._life.over.wait()
        self.forgive()
        if self._record.unsaved is not None:
            raise SaveFailed(f"{self.spec.address}: {self._record.unsaved}")

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[bool]:
        """Drained, saved, and kept stopped; visitors wait. Says whether it ran before; then it is started again after.

        Raises kit.errors.SaveFailed, and then it was not paused."""
        async with self._pauses:
            ran = self._life is not None and not self._life.saves_only and self._standing.state in WELCOMING
            self._resumed = asyncio.Event()
            try:
                await self._emptied()
                yield ran
            finally:
                resumed, self._resumed = self._resumed, None
                resumed.set()
                if ran and self._life is None and self._may_begin():
                    self._begin()
                elif self._life is None:
                    self._rest()

    async def _emptied(self) -> None:
        self.stop("it is paused")
        while self._life is not None:
            await self._life.over.wait()
        if self._record.unsaved is not None:
            await self._begin(saves_only=True).over.wait()
        if self._record.unsaved is not None:
            raise SaveFailed(f"{self.spec.address}: {self._record.unsaved}")

    @property
    def databases(self) -> Databases | None:
        """Of a ready app."""
        return self._life.databases if self._life is not None and self._standing.state is State.READY else None

    def forgive(self) -> None:
        """Forgets its failures: somebody believes that they are mended."""
        self._record.forgive()
        if self._standing.state is State.FAILED:
            self._standing.to(State.STOPPED)

    # --- for the fleet ---

    def stop(self, why: str, *, again: bool = False) -> None:
        """Asks it to stop, at once; returns before it has. ``again``: a new life is to follow."""
        if self._life is not None:
            self._again = again
            self._life.stop(why)

    def respec(self, spec: Spec) -> None:
        """From the next life on it is run like this; a running app is restarted when it is idle."""
        self.removed = False
        if spec == self.spec:
            return
        self.spec = spec
        self.forgive()
        if self._life is not None:
            self._life.rest = idle.MOMENT
            self._quiet()

    def remove(self) -> None:
        self.removed = True
        self.stop("it is no longer configured")

    def owes(self, why: str) -> None:
        """Its local copy has something which the store has not."""
        if self._record.unsaved is None:
            self._record.unsaved = why
        self._house.awake[self.spec.address] = self

    async def rescue(self) -> None:
        """Saves what is unsaved by a life without an app, unless there is a life; returns when that is over."""
        if self._life is None and self._record.unsaved is not None and self._resumed is None:
            self._begin(saves_only=True)
        if self._life is not None:
            await self._life.over.wait()

    async def closed(self) -> None:
        """Stopped, and saved if it can be: a save that fails is tried again until there is a hurry."""
        hurry = self._house.hurry
        self.stop("the daemon is going away")
        while self._life is not None or self._record.unsaved is not None:
            await self.rescue()
            if self._record.unsaved is None or hurry.is_set():
                return
            await tasks.first_of(asyncio.sleep(max(RETRY, self._record.next_save)), hurry.wait())
            if hurry.is_set():
                return

    def abandon(self) -> None:
        if self._life is not None:
            self._life.abandon()

    @property
    def makes_room(self) -> bool:
        return self._life is not None and not self._life.saves_only and self._standing.state in LEAVING

    @property
    def unsettled(self) -> bool:
        return self._record.unsaved is not None or self._standing.state not in RESTING | {State.READY}

    # --- lives ---

    def _may_begin(self) -> bool:
        return not self.removed and not self._house.closing and self._resumed is None and self._record.failure is None

    def _begin(self, *, saves_only: bool = False) -> Life:
        assert self._life is None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._house.awake[self.spec.address] = self
        self._life = Life(
            self.spec,
            self._house,
            self._record,
            self._standing,
            quiet=self._quiet,
            ended=self._life_ended,
            saves_only=saves_only,
        )
        return self._life

    def _quiet(self) -> None:
        if self._life is not None:
            self._house.quiet(self._life.visitors.quiet_since + self._life.rest)

    def _life_ended(self) -> None:
        self._life = None
        again, self._again = self._again, False
        if again and self._may_begin():
            self._begin()
        else:
            self._rest()

    def _rest(self) -> None:
        """Nobody needs us now. But what is unsaved must be saved, and a back-off is remembered until it is over."""
        loop, failure = asyncio.get_running_loop(), self._record.failure
        if self._record.unsaved is not None:
            self._alarm = loop.call_later(self._record.next_save, self._wake)
        elif failure is not None and loop.time() < failure.until:
            self._alarm = loop.call_at(failure.until, self._wake)
        else:
            self._house.awake.pop(self.spec.address, None)

    def _wake(self) -> None:
        self._alarm = None
        if self._life is not None or self._resumed is not None or self._house.closing:
            return
        if self._record.unsaved is not None:
            self._begin(saves_only=True)
        else:
            self._rest()

    # --- being looked at ---

    def snapshot(self) -> idle.Snapshot:
        life = self._life
        return idle.Snapshot(
            tenant=self.spec.address,
            state=self._standing.state,
            visitors=life.visitors.count if life is not None else 0,
            quiet_since=life.visitors.quiet_since if life is not None else math.inf,
            idle=life.spec.app.idle if life is not None else 0.0,
            changed=life is not None and life.spec != self.spec,
        )

    def status(self) -> Status:
        record, life, look = self._record, self._life, self.snapshot()
        databases = life.databases if life is not None else None
        child = life.child if life is not None else None
        saved_at = databases.saved_at if databases is not None else record.saved_at
        return Status(
            tenant=self.spec.address,
            user=self.spec.user,
            state=look.state,
            pid=child.pid if child is not None else None,
            port=child.port if child is not None else None,
            visitors=look.visitors + self._between.count,
            since=stamp(self._standing.since),
            idle_at=self._wall_stamp(look.idle_at),
            starts=record.starts,
            crashes=record.crashes,
            last_exit=record.last_exit,
            reason=record.failure.reason if record.failure is not None else record.unsaved,
            unsaved=databases.unsaved if databases is not None else record.unsaved is not None,
            saved_at=stamp(saved_at) if saved_at is not None else None,
            restart_pending=look.changed,
        )

    def _wall_stamp(self, moment: float) -> str | None:
        """A moment of the loop's clock, as people write it."""
        if moment == math.inf:
            return None
        return stamp(self._house.wall() + moment - asyncio.get_running_loop().time())
