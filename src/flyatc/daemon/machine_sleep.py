"""One try to put this machine to sleep: all is saved and given back, then the platform is asked.

A machine that is suspended does not notice it, and its clocks stand still. So it sleeps owning nothing, its session
ended before the platform is asked; and from then on nobody is taken until it is known what became of it: see
ownership/design.md.

The daemon's parts, as seen by whoever puts the machine to sleep (daemon.sleep.Machine).
"""

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Protocol

from flyatc.config.schema import Config
from flyatc.daemon.leases import kept
from flyatc.daemon.machine_rules import Cause, Reading, Slept, Stalled, gap
from flyatc.daemon.wiring import Parts
from flyatc.fly import local_api
from flyatc.fly.local_api import Unanswered, Verb
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, SaveFailed
from flyatc.observe.log import Log
from flyatc.ownership.clock import Clock

BEAT = 0.2  # s; between two looks at the clocks, after the platform was asked
STALL = 1.0  # s; a busy machine may come so late to a look
LOOK = 1.0  # s; between two looks at the store's clock, while somebody waits
STORE = 10.0  # s; which those may take
EXPECTED = 30.0  # s; in which the platform does what it was asked to


class Machine(Protocol):
    """The daemon, as seen by whoever puts it to sleep."""

    def quiet_for(self) -> float:
        """Seconds since somebody was served; 0 while somebody is, or waits."""

    async def settle(self) -> None:
        """No app runs, and all is in the store. Raises FlyatcError where that cannot be had; who comes meanwhile is
        served as ever."""

    async def rest(self) -> None:
        """Nothing is owned, nor will be until ``wake``. Raises FlyatcError, and then it is as before."""

    async def slept(self) -> bool:
        """Whether the store's clock shows that ours has stood still since ``rest``."""

    def wake(self) -> None: ...

    async def forget(self) -> None:
        """What was told by others, and the connections to them: after a sleep both are worth nothing."""


class Platform(Protocol):
    """See fly.local_api."""

    async def ask(self, verb: Verb) -> None: ...


class NotDone(FlyatcError):
    """The platform was asked, and nothing has happened."""


class Outcome(Enum):
    SLEPT = "it slept, and is awake again"
    DISTURBED = "somebody came"
    FAILED = "it could not"
    IGNORED = "the platform was asked, and nothing has happened"


class MachineSleep:
    def __init__(self, machine: Machine, platform: Platform, log: Log, clock: Clock | None = None) -> None:
        self._machine, self._platform, self._log = machine, platform, log
        self._clock = clock or Clock()

    async def fall(self, verb: Verb, after: float) -> Outcome:
        """``after``: machine_idle.after. Where the platform stops the machine this does not return: a signal comes."""
        try:
            await self._machine.settle()
            outcome = await (self._stop(after) if verb == "stop" else self._suspend(after))
        except FlyatcError as error:
            self._log.event("warning", "this machine cannot sleep now", then=verb, reason=str(error))
            return Outcome.IGNORED if isinstance(error, NotDone) else Outcome.FAILED
        if outcome is Outcome.DISTURBED:
            self._log.event("info", "somebody came: this machine stays awake")
        return outcome

    async def _stop(self, after: float) -> Outcome:
        if self._disturbed(after):
            return Outcome.DISTURBED
        await self._ask("stop")
        await asyncio.sleep(EXPECTED)
        raise NotDone("Fly was asked to stop this machine, and has not")

    async def _suspend(self, after: float) -> Outcome:
        try:
            await self._machine.rest()
            if self._disturbed(after):
                return Outcome.DISTURBED
            sign = await self._frozen()
            await self._machine.forget()
        finally:
            self._machine.wake()
        self._log.event("info", "awake again", sign=sign)
        return Outcome.SLEPT

    def _disturbed(self, after: float) -> bool:
        """Between this and the question to the platform nothing is awaited."""
        return self._machine.quiet_for() < after

    async def _frozen(self) -> str:
        """Returns how it shows, when it is over."""
        watch = tasks.start(self._watch(), "sleep")  # before: it may come with the question
        try:
            await self._ask("suspend")
            return await watch
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _ask(self, verb: Verb) -> None:
        self._log.event("info", f"all is saved, and nobody is here: asks Fly to {verb} this machine")
        self._log.settle()
        try:
            await self._platform.ask(verb)
        except Unanswered as error:
            self._log.event("info", "it may do so all the same", reason=str(error))

    async def _watch(self) -> str:
        first = before = self._read()
        looked = -math.inf
        while True:
            await asyncio.sleep(BEAT)
            now = self._read()
            if (sign := _asleep(gap(first, before, now, BEAT + STALL))) is not None:
                return sign
            if now.boottime - first.boottime > EXPECTED:
                raise NotDone("Fly was asked to suspend this machine, and has not")
            before = now
            if not self._machine.quiet_for() and now.boottime - looked > LOOK:
                looked = now.boottime
                if await self._machine.slept():
                    return "the store's clock went on while ours stood still"
                before = self._read()
                if (sign := _asleep(gap(first, now, before, STORE))) is not None:
                    return sign

    def _read(self) -> Reading:
        return reading(self._clock)


def reading(clock: Clock) -> Reading:
    ran, waited = clock.scheduled()
    return Reading(clock.boottime(), clock.wall(), clock.monotonic(), ran, waited)


def _asleep(found: Slept | Stalled | None) -> str | None:
    """The sign of it; a process that was stopped counts: the platform was asked, and may do it in this way."""
    if isinstance(found, Stalled):
        return f"nothing ran for {found.seconds:.1f} s" if found.cause is Cause.STOPPED else None
    return None if found is None else found.sign


MOST_NAMED = 5  # tenants of whom the log is told


class Resting:
    """``looked``: set once it is known what an earlier run left unsaved."""

    def __init__(self, parts: Parts, config: Callable[[], Config], looked: asyncio.Event) -> None:
        self._parts, self._config, self._looked = parts, config, looked

    def quiet_for(self) -> float:
        """Who is served without an app counts as well. Who is held by a pause is no visitor of any app, but one of
        ours."""
        parts = self._parts
        if parts.recorder.counters.in_flight or parts.barrier.waiting():
            return 0.0
        return min(parts.fleet.quiet_for(), monotonic() - parts.recorder.served_at)

    async def settle(self) -> None:
        """Raises SaveFailed."""
        await self._looked.wait()
        await self._parts.fleet.rest("nobody has come for long")
        try:
            await self._settled()
        except OSError as error:
            raise SaveFailed(f"what is on the disk cannot be read: {error}") from error

    async def _settled(self) -> None:
        """By what is on the disk, of whoever it is."""
        vault, config = self._parts.vault, self._config()
        tenants = [one for one in await kept(config) if not vault.holds(one)]
        if unsaved := await vault.unsaved(tenants):
            names = ", ".join(one.address for one in unsaved[:MOST_NAMED])
            raise SaveFailed(f"not everything is saved: {names}{'…' if len(unsaved) > MOST_NAMED else ''}")
        if local_api.loses_disk(config, self._parts.environ) and (stranded := await vault.stranded(tenants)):
            raise SaveFailed(f"what was set aside is not in the store yet: {stranded[0]}")

    async def rest(self) -> None:
        """Raises OwnershipUnknown. The connections go before: none is there to be dead afterwards."""
        await self._parts.owning.rest()
        await self.forget()

    async def slept(self) -> bool:
        return await self._parts.owning.slept()

    def wake(self) -> None:
        self._parts.owning.wake()

    async def forget(self) -> None:
        await self._parts.forget()
