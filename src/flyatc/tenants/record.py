"""What is remembered of a tenant from one life to the next.

Where a tenant stands: its state, since when, and the one setter.

After how many failures a tenant may try again, and when. Pure: ``now`` is given.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from flyatc.kit import backoff
from flyatc.kit.types import Exit
from flyatc.tenants import state
from flyatc.tenants.errors import Elsewhere, Failed, NoSuchUser, NotReadyInTime, Unavailable, Unsafe
from flyatc.tenants.interfaces import EventLog
from flyatc.tenants.state import State


class StateTracker:
    __slots__ = ("_entered", "_log", "_tenant", "_wall", "since", "state")

    def __init__(self, tenant: str, log: EventLog, wall: Callable[[], float]) -> None:
        self.state = State.STOPPED
        self._tenant, self._log, self._wall = tenant, log, wall
        self._entered = asyncio.get_running_loop().time()
        self.since = wall()  # Unix time of the last change

    def to(self, new: State, why: str | None = None) -> None:
        """The only way to change the state; logged with the ms spent in the former. Raises lifecycle.Impossible."""
        old, self.state = self.state, state.follow(self.state, new)
        now = asyncio.get_running_loop().time()
        ms, self._entered = round((now - self._entered) * 1000, 1), now
        self.since = self._wall()
        reason = {} if why is None else {"why": why}
        self._log.event("info", f"tenant {new}", tenant=self._tenant, state=new.value, was=old.value, ms=ms, **reason)


STEADY = 60.0  # seconds; who was ready for longer has proved itself, and a crash after that is a new story


class StartBackoff:
    """What a tenant's failures cost it. ``until``: no new life before that moment of the loop's clock."""

    __slots__ = ("_crashed", "_level", "until")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._level, self._crashed, self.until = 0, False, float("-inf")

    def start_failed(self, now: float) -> float:
        """The seconds of back-off: 1, 2, 4 … 60."""
        self._level += 1
        return self._wait(now)

    def crashed(self, now: float) -> float:
        """The seconds of back-off: 0 for the first crash, then as for failed starts. Crashes further apart than STEADY
        (a back-off between them not counted) are each a first one."""
        if now - self.until > STEADY:
            self.reset()
        if not self._crashed:
            self._crashed, self.until = True, now
            return 0.0
        self._level += 1
        return self._wait(now)

    def survived(self, seconds: float) -> None:
        """A life was ready for so long."""
        if seconds > STEADY:
            self.reset()

    def _wait(self, now: float) -> float:
        seconds = backoff.delay(self._level)
        self.until = now + seconds
        return seconds


LAST_LINES = 5  # of the app's output, in the sentence for people; the log has all that were kept


@dataclass(frozen=True)
class Failure:
    """Why the last life failed, and until when (the loop's clock) requests are refused for it."""

    kind: type[Unavailable]
    tenant: str
    reason: str
    until: float
    owner: str | None = None  # the machine to ask instead

    def error(self, now: float) -> Unavailable:
        """One for each who asks: an exception that is raised twice mixes up its tracebacks."""
        return self.kind(self.tenant, self.reason, max(0.0, self.until - now), self.owner)

    def later(self, now: float) -> Unavailable:
        """For those who come during the back-off: they have not waited, so nothing was too late for them."""
        kind = Failed if self.kind is NotReadyInTime else self.kind
        return kind(self.tenant, self.reason, max(0.0, self.until - now), self.owner)


@dataclass(slots=True)
class Record:
    starts: int = 0
    crashes: int = 0
    last_exit: str | None = None  # a sentence
    failure: Failure | None = None  # of the last life; None when it went well
    setbacks: StartBackoff = field(default_factory=StartBackoff)
    saved_at: float | None = None  # Unix time
    unsaved: str | None = None  # why the local copy has something which the store has not; None: all is saved
    failed_saves: int = 0  # in a row
    renewed: dict[str, str] = field(default_factory=dict)  # databases which had to be sent again, and why the last time

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
        """Until then (the loop's clock) a tenant with setbacks must not be forgotten, or it would never back off.

        Refused restores are remembered as short as can be: they cost nothing, so there may be very many of them."""
        if self.failure is not None and self.failure.kind in (Unsafe, Elsewhere, NoSuchUser):
            return self.failure.until
        return self.setbacks.until + STEADY

    @property
    def next_save(self) -> float:
        """Seconds until the next attempt to save."""
        return backoff.delay(self.failed_saves)

    def reset_backoff(self) -> None:
        """What has failed is believed to be mended."""
        self.failure = None
        self.setbacks.reset()
