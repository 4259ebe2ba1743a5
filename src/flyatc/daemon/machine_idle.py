"""Stop, suspend or exit when the machine is idle (``machine_idle``); detect unexpected sleeps and stalls."""

import asyncio
import math
from collections.abc import Callable, Mapping
from time import time

from flyatc.config.schema import Config
from flyatc.config.schema_sections import MachineIdle
from flyatc.daemon.clock_gaps import Cause, Reading, Slept, Stalled, StallReports, explain_clock_gap
from flyatc.daemon.machine_idle_rule import Due, NotYet, Seen, machine_idle_due
from flyatc.daemon.machine_sleep import Machine, MachineSleep, Outcome, Platform, reading
from flyatc.fly import environment, local_api
from flyatc.kit.errors import FlyatcError
from flyatc.kit.machine_clocks import Clock
from flyatc.observe.log import Log

LOOK_SECONDS = 5.0
BEAT = 1.0  # s; between two readings of the clocks
STALL = 5.0  # s; a reading may be so late on a busy machine
FORGOTTEN = "cached DNS answers and connections are dropped"
LONG = 7  # failures counted for an ignored request, so that the next pause is long: requests may have waited in vain


class IdleWatcher:
    """``end``: ends the daemon; its argument is the reason."""

    def __init__(
        self,
        body: Machine,
        config: Callable[[], Config],
        environ: Mapping[str, str],
        end: Callable[[str], None],
        log: Log,
        *,
        platform: Platform | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``platform``: replaces Fly's local API."""
        self._body, self._config, self._environ, self._end, self._log = body, config, environ, end, log
        self._platform, self._clock = platform, clock or Clock()
        self._up_since = self._clock.boottime()
        self._sleeping = False
        self._stalls = StallReports()
        self._first = self._before = self._read()
        self._failures, self._failed_at = 0, -math.inf
        self._checked: MachineIdle | None = None
        self._obstacle: str | None = None

    async def run(self) -> None:
        """Act when the machine is idle. Returns only after ``end``."""
        while True:
            settings = self._config().machine_idle
            self._check(settings)
            await asyncio.sleep(min(LOOK_SECONDS, max(0.05, settings.after / 4)))
            verdict = self._judge()
            if isinstance(verdict, Due) and await self._act(self._config().machine_idle, verdict.reason):
                return

    async def watch(self) -> None:
        """Watch the clocks for sleeps and stalls. Never returns. The lease session does not depend on it: it reads the
        clocks for each request."""
        while True:
            await asyncio.sleep(BEAT)
            now = self._read()
            found = None if self._sleeping else explain_clock_gap(self._first, self._before, now, BEAT + STALL)
            self._before = now
            if isinstance(found, Slept):
                self._log.event("info", f"this machine slept: {FORGOTTEN}", sign=found.sign)
                await self._forget()
            elif isinstance(found, Stalled):
                await self._stalled(Stalled(found.seconds - BEAT, found.cause), now.boottime)

    async def _stalled(self, found: Stalled, now: float) -> None:
        """Report a stall. Caches stay valid, since the machine was awake, unless the process was stopped."""
        if found.cause is Cause.STOPPED:
            self._log.event("warning", f"this process did not run: {FORGOTTEN}", seconds=round(found.seconds, 1))
            await self._forget()
        elif (fields := self._stalls.add(found, now)) is not None:
            self._log.event("warning", "requests were not served meanwhile: the event loop stood still", **fields)

    async def _forget(self) -> None:
        await self._body.forget()
        self._first = self._before = self._read()

    def due_at(self) -> float | None:
        """Unix time at which the machine is due if no request comes. None: never, or not counting down."""
        verdict = self._judge()
        left = verdict.left if isinstance(verdict, NotYet) else 0.0
        return None if left == math.inf else time() + left

    def _check(self, settings: MachineIdle) -> None:
        """Check if sleeping is possible: at the start, and at each reload that changes the setting."""
        if settings == self._checked:
            return
        self._checked = settings
        self._obstacle = None if self._platform is not None else local_api.reason(self._config(), self._environ)
        if self._obstacle is not None:
            self._log.event("warning", self._obstacle)

    def _judge(self) -> Due | NotYet:
        if self._obstacle is not None:
            return NotYet(self._obstacle, math.inf)
        now = self._clock.boottime()
        seen = Seen(self._body.quiet_for(), now - self._up_since, self._failures, now - self._failed_at)
        return machine_idle_due(self._config().machine_idle, seen)

    async def _act(self, settings: MachineIdle, reason: str) -> bool:
        """Sleep or exit. True if the daemon ends."""
        if settings.then == "exit":
            return await self._exit(settings, reason)
        assert settings.then != "none"
        self._log.event("info", f"{reason}: going to sleep", then=settings.then)
        self._sleeping = True
        try:
            outcome = await MachineSleep(self._body, self._fly(), self._log, self._clock).attempt(
                settings.then, settings.after
            )
        finally:
            self._sleeping, self._first = False, self._read()
            self._before = self._first
        self._note(outcome)
        return False

    async def _exit(self, settings: MachineIdle, reason: str) -> bool:
        try:
            await self._body.settle()
        except FlyatcError as error:
            self._log.event("warning", "the machine is idle, but the daemon cannot end now", reason=str(error))
            self._note(Outcome.FAILED)
            return False
        if self._body.quiet_for() < settings.after:
            return False
        self._end(reason)
        return True

    def _note(self, outcome: Outcome) -> None:
        now = self._clock.boottime()
        if outcome in (Outcome.FAILED, Outcome.IGNORED):
            least = LONG if outcome is Outcome.IGNORED else 1
            self._failures, self._failed_at = max(self._failures + 1, least), now
        else:
            self._failures = 0
        if outcome is Outcome.SLEPT:
            self._up_since = now

    def _fly(self) -> Platform:
        if self._platform is not None:
            return self._platform
        me = environment.this_machine(self._environ)
        assert me is not None, "checked by local_api.reason"
        return local_api.LocalApi(local_api.socket_of(self._environ), me)

    def _read(self) -> Reading:
        return reading(self._clock)
