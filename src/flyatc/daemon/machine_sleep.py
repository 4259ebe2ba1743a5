"""One attempt to put this machine to sleep: save and release everything, then ask the platform.

A suspended machine does not notice it, and its clocks stand still. So it ends its session and holds no lease before the
platform is asked, and acquires none until the outcome is known: see ownership/design.md.
"""

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Protocol

from flyatc.config.schema import Config
from flyatc.daemon.clock_gaps import Cause, Reading, Slept, Stalled, explain_clock_gap
from flyatc.daemon.leases import local_tenants
from flyatc.daemon.wiring import Parts
from flyatc.fly import local_api
from flyatc.fly.local_api import Unanswered, Verb
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, SaveFailed
from flyatc.kit.machine_clocks import Clock
from flyatc.observe.log import Log

BEAT = 0.2  # s; between two readings of the clocks, after the platform was asked
STALL = 1.0  # s; a reading may be so late on a busy machine
LOOK = 1.0  # s; between two readings of the store's clock, while a request waits
STORE = 10.0  # s; duration of such a reading at most
EXPECTED = 30.0  # s; in which the platform stops or suspends the machine


class Machine(Protocol):
    """Interface of the daemon for MachineSleep."""

    def quiet_for(self) -> float:
        """Seconds since the last request; 0 while one is served or waits."""

    async def settle(self) -> None:
        """Stop all apps and save. Raises FlyatcError if that fails. Requests which arrive meanwhile are served as
        usual."""

    async def rest(self) -> None:
        """Release all leases and acquire none until ``wake``. Raises FlyatcError; then nothing has changed."""

    async def slept(self) -> bool:
        """True if the store's clock shows that ours has stood still since ``rest``."""

    def wake(self) -> None: ...

    async def forget(self) -> None:
        """Drop cached lookups and open connections: after a sleep both are stale."""


class Platform(Protocol):
    """See fly.local_api."""

    async def ask(self, verb: Verb) -> None: ...


class NotDone(FlyatcError):
    """The platform accepted the request but did nothing."""


class Outcome(Enum):
    SLEPT = "it slept, and is awake again"
    DISTURBED = "a request arrived"
    FAILED = "it could not"
    IGNORED = "the platform was asked, and nothing has happened"


class MachineSleep:
    """One attempt to sleep."""

    def __init__(self, machine: Machine, platform: Platform, log: Log, clock: Clock | None = None) -> None:
        self._machine, self._platform, self._log = machine, platform, log
        self._clock = clock or Clock()

    async def attempt(self, verb: Verb, after: float) -> Outcome:
        """Stop or suspend the machine. ``after``: machine_idle.after. A successful stop does not return: a signal ends
        the daemon."""
        try:
            await self._machine.settle()
            outcome = await (self._stop(after) if verb == "stop" else self._suspend(after))
        except FlyatcError as error:
            self._log.event("warning", "this machine cannot sleep now", then=verb, reason=str(error))
            return Outcome.IGNORED if isinstance(error, NotDone) else Outcome.FAILED
        if outcome is Outcome.DISTURBED:
            self._log.event("info", "a request arrived: this machine stays awake")
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
            sign = await self._suspended()
            await self._machine.forget()
        finally:
            self._machine.wake()
        self._log.event("info", "awake again", sign=sign)
        return Outcome.SLEPT

    def _disturbed(self, after: float) -> bool:
        """True if a request arrived. Do not await between this and the request to the platform."""
        return self._machine.quiet_for() < after

    async def _suspended(self) -> str:
        """Suspend the machine. Returns after it woke, with the evidence."""
        watch = tasks.start(self._watch(), "sleep")  # before asking: the suspension may come at once
        try:
            await self._ask("suspend")
            return await watch
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _ask(self, verb: Verb) -> None:
        self._log.event("info", f"all is saved and no request is served: asks Fly to {verb} this machine")
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
            if (sign := _asleep(explain_clock_gap(first, before, now, BEAT + STALL))) is not None:
                return sign
            if now.boottime - first.boottime > EXPECTED:
                raise NotDone("Fly was asked to suspend this machine, and has not")
            before = now
            if not self._machine.quiet_for() and now.boottime - looked > LOOK:
                looked = now.boottime
                if await self._machine.slept():
                    return "the store's clock went on while ours stood still"
                before = self._read()
                if (sign := _asleep(explain_clock_gap(first, now, before, STORE))) is not None:
                    return sign

    def _read(self) -> Reading:
        return reading(self._clock)


def reading(clock: Clock) -> Reading:
    ran, waited = clock.scheduled()
    return Reading(clock.boottime(), clock.wall(), clock.monotonic(), ran, waited)


def _asleep(found: Slept | Stalled | None) -> str | None:
    """Evidence of a sleep, or None. A stopped process counts: the platform may suspend in this way."""
    if isinstance(found, Stalled):
        return f"nothing ran for {found.seconds:.1f} s" if found.cause is Cause.STOPPED else None
    return None if found is None else found.sign


MOST_NAMED = 5  # tenants named in one log line


class DaemonMachine:
    """Implementation of ``Machine`` by the daemon's parts. ``looked``: set once it is known what an earlier run left
    unsaved."""

    def __init__(self, parts: Parts, config: Callable[[], Config], looked: asyncio.Event) -> None:
        self._parts, self._config, self._looked = parts, config, looked

    def quiet_for(self) -> float:
        """Seconds since the last request, including requests served without an app and requests held by a pause."""
        parts = self._parts
        if parts.recorder.counters.in_flight or parts.maintenance.waiting():
            return 0.0
        return min(parts.fleet.quiet_for(), monotonic() - parts.recorder.served_at)

    async def settle(self) -> None:
        """Stop all apps and save. Raises SaveFailed."""
        await self._looked.wait()
        await self._parts.fleet.rest("no request for long")
        try:
            await self._settled()
        except OSError as error:
            raise SaveFailed(f"what is on the disk cannot be read: {error}") from error

    async def _settled(self) -> None:
        """Check that nothing on the disk is unsaved, whichever tenant it belongs to. Raises SaveFailed."""
        databases, config = self._parts.databases, self._config()
        tenants = [one for one in await local_tenants(config) if not databases.holds(one)]
        if unsaved := await databases.unsaved(tenants):
            names = ", ".join(one.address for one in unsaved[:MOST_NAMED])
            raise SaveFailed(f"not everything is saved: {names}{'…' if len(unsaved) > MOST_NAMED else ''}")
        if local_api.loses_disk(config, self._parts.environ) and (stranded := await databases.stranded(tenants)):
            raise SaveFailed(f"what was set aside is not in the store yet: {stranded[0]}")

    async def rest(self) -> None:
        """Release all leases and close connections, which would be dead after a sleep. Raises OwnershipUnknown."""
        await self._parts.leases.rest()
        await self.forget()

    async def slept(self) -> bool:
        return await self._parts.leases.slept()

    def wake(self) -> None:
        self._parts.leases.wake()

    async def forget(self) -> None:
        await self._parts.forget()
