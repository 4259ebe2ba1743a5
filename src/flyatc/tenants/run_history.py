"""State of a tenant that outlives its runs: the current state and its setter, back-off after failures, saves."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from flyatc.kit import timing
from flyatc.kit.types import Exit
from flyatc.observe.log import EventLog
from flyatc.tenants import state
from flyatc.tenants.errors import Elsewhere, Failed, NoSuchUser, NotReadyInTime, Unavailable, Unsafe
from flyatc.tenants.state import State


class StateTracker:
    __slots__ = ("_entered", "_log", "_tenant", "_wall", "since", "state")

    def __init__(self, tenant: str, log: EventLog, wall: Callable[[], float]) -> None:
        self.state = State.STOPPED
        self._tenant, self._log, self._wall = tenant, log, wall
        self._entered = asyncio.get_running_loop().time()
        self.since = wall()  # Unix time of the last change

    def change_to(self, new: State, why: str | None = None) -> None:
        """Change the state, the only way to do so, and log the ms spent in the old one. Raises InvalidTransition."""
        old, self.state = self.state, state.check_transition(self.state, new)
        now = asyncio.get_running_loop().time()
        ms, self._entered = round((now - self._entered) * 1000, 1), now
        self.since = self._wall()
        reason = {} if why is None else {"why": why}
        self._log.event("info", f"tenant {new}", tenant=self._tenant, state=new.value, was=old.value, ms=ms, **reason)


STEADY = 60.0  # seconds; once a run was ready for longer, earlier failures no longer count


class StartBackoff:
    """Back-off after failed starts and crashes. ``until``: no new run before this time of the loop's clock.

    Pure: ``now`` is passed in."""

    __slots__ = ("_crashed", "_level", "until")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._level, self._crashed, self.until = 0, False, float("-inf")

    def start_failed(self, now: float) -> float:
        """Return the seconds of back-off: 1, 2, 4 … 60."""
        self._level += 1
        return self._wait(now)

    def crashed(self, now: float) -> float:
        """Return the seconds of back-off: 0 for the first crash, then as for failed starts. A crash counts as the first
        if more than STEADY has passed since the last one and its back-off."""
        if now - self.until > STEADY:
            self.reset()
        if not self._crashed:
            self._crashed, self.until = True, now
            return 0.0
        self._level += 1
        return self._wait(now)

    def survived(self, seconds: float) -> None:
        """Reset the back-off if a run was ready for longer than STEADY."""
        if seconds > STEADY:
            self.reset()

    def _wait(self, now: float) -> float:
        seconds = timing.delay(self._level)
        self.until = now + seconds
        return seconds


LAST_LINES = 5  # of the app's output in ``last_exit``; the log has all kept lines


@dataclass(frozen=True)
class Failure:
    """Failure of the last run. Requests are refused ``until`` this time of the loop's clock."""

    kind: type[Unavailable]
    tenant: str
    reason: str
    until: float
    owner: str | None = None  # the machine that serves instead

    def error(self, now: float) -> Unavailable:
        """Return a new exception for each caller: one that is raised twice mixes up its tracebacks."""
        return self.kind(self.tenant, self.reason, max(0.0, self.until - now), self.owner)

    def later(self, now: float) -> Unavailable:
        """Return the error for a request during the back-off: Failed in place of NotReadyInTime, as it did not wait."""
        kind = Failed if self.kind is NotReadyInTime else self.kind
        return kind(self.tenant, self.reason, max(0.0, self.until - now), self.owner)


@dataclass(slots=True)
class Record:
    starts: int = 0
    epoch: int | None = None  # of the last lease; None: no response can be cached of the time before
    crashes: int = 0
    last_exit: str | None = None  # a sentence
    failure: Failure | None = None  # of the last run; None after a success
    setbacks: StartBackoff = field(default_factory=StartBackoff)
    saved_at: float | None = None  # Unix time
    unsaved: str | None = None  # why the store lacks changes of the local copy; None: all is saved
    failed_saves: int = 0  # in a row
    overlooked: list[str] = field(default_factory=list)  # by the last look of the last run: what is not saved
    renewed: dict[str, str] = field(default_factory=dict)  # databases uploaded in full again: the last reason

    def exited(self, end: Exit) -> None:
        lines = " | ".join(end.output[-LAST_LINES:])
        self.last_exit = f"{end}: {lines}" if lines else str(end)

    def saved(self) -> None:
        self.unsaved, self.failed_saves = None, 0

    def not_saved(self, why: str) -> None:
        self.unsaved = why
        self.failed_saves += 1

    @property
    def remembered_until(self) -> float:
        """Time of the loop's clock until which the tenant is kept in memory, so that its back-off applies.

        Refused restores are kept only until they may be retried: they are cheap, so there may be very many."""
        if self.failure is not None and self.failure.kind in (Unsafe, Elsewhere, NoSuchUser):
            return self.failure.until
        return self.setbacks.until + STEADY

    @property
    def next_save(self) -> float:
        """Seconds until the next attempt to save."""
        return timing.delay(self.failed_saves)

    def reset_backoff(self) -> None:
        """Forget the failure and its back-off."""
        self.failure = None
        self.setbacks.reset()
