"""What is remembered of a tenant from one life to the next."""

from dataclasses import dataclass, field

from flyatc.kit import backoff
from flyatc.kit.exits import Exit
from flyatc.tenants.errors import Elsewhere, Failed, NoSuchUser, NotReadyInTime, Unavailable, Unsafe
from flyatc.tenants.setbacks import STEADY, Setbacks

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
    setbacks: Setbacks = field(default_factory=Setbacks)
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

    def forgive(self) -> None:
        """What has failed is believed to be mended."""
        self.failure = None
        self.setbacks.reset()
