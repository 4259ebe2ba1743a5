"""The right to write one user's databases: its protocol, and the leases with and without a shared store."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from flyatc.kit.errors import OwnershipUnknown
from flyatc.kit.machine_clocks import Clock

JUMP = 1.0  # s; of the wall clock against CLOCK_BOOTTIME: the machine was suspended, or its clock was set


@dataclass(frozen=True)
class PreviousLease:
    """The ownership that a lease replaced. ``epoch`` 0: the user had no owner. ``clean``: no owner, or the store has
    all data. ``line_epoch``: names the replica path written last (litestream mode); it has the data, or an earlier
    one if it is empty.

    ``since``: all owners from this epoch on were the same machine."""

    epoch: int
    clean: bool
    line_epoch: int
    since: int


class Lease(Protocol):
    """The right to write the databases of one user, from its acquisition to its release."""

    @property
    def epoch(self) -> int:
        """Epoch of the record written by this machine, higher than any before it; 0: there is no shared store."""

    @property
    def line_epoch(self) -> int:
        """Epoch of the last acquisition without a clean release: earlier writers may be unaware of it."""

    @property
    def previous(self) -> PreviousLease: ...

    @property
    def known(self) -> bool:
        """True if the user had an owner record before."""

    @property
    def doubted(self) -> asyncio.Event:
        """Set while the session is overdue for confirmation; new requests are paused until it is confirmed."""

    @property
    def ended(self) -> asyncio.Event:
        """Set when the lease has expired or is lost: the app is killed without a final save. Never cleared."""

    @property
    def lost(self) -> bool:
        """True if it has ended and another machine may write by now: unsaved changes then belong to no history."""

    @property
    def why(self) -> str:
        """Reason of the end."""

    def valid(self) -> bool:
        """Return whether this machine may write now. Cheap: called before each response is passed on."""

    def certain(self) -> bool:
        """Return whether it is valid and not in doubt. Cheap: called before each request is passed on."""

    def last_writer(self, epoch: int) -> bool:
        """Return whether no other machine can have written since a local file recorded at ``epoch``.

        Epochs before the last one count too: a daemon may be killed between taking a user and recording the new epoch,
        and after a save that failed an app may be started again while the lease is still held."""

    def mark_dirty(self, why: str, part: str = "") -> None:
        """Note that a save of ``part`` (such as a tenant) failed for good; the release then records ``dirty``."""

    def mark_saved(self, part: str = "") -> None:
        """Clear the mark of ``part``: its data are in the store after all."""

    async def raise_epoch(self, above: int) -> None:
        """Write an epoch above ``above``, which the store's data had and the record had not; to be called before any
        pointer is stamped. Raises OwnershipUnknown, HeldElsewhere; if it fails, the lease is lost."""


class SessionTerm:
    """Numbers by which leases judge their session at each request, set by its renewals (SessionKeeper).

    ``until``: the deadline on CLOCK_BOOTTIME, -inf while the clocks are suspected; ``certain_until``: the same, and
    -inf while the session is in doubt; ``offset``: the wall clock less CLOCK_BOOTTIME: a jump of it is suspicious."""

    __slots__ = ("boottime", "certain_until", "offset", "until", "wall")

    def __init__(self, clock: Clock) -> None:
        self.boottime, self.wall = clock.boottime, clock.wall
        self.until = self.certain_until = -math.inf
        self.offset = clock.wall() - clock.boottime()


class HeldLease:
    """Lease recorded in the store (Lease). ``epoch`` and ``line_epoch`` change by ``raise_epoch`` only."""

    def __init__(
        self,
        epoch: int,
        line_epoch: int,
        previous: PreviousLease,
        *,
        doubted: asyncio.Event,
        valid: Callable[[bool], bool],
        raise_epoch: Callable[["HeldLease", int], Awaitable[None]],
        term: SessionTerm | None = None,
    ) -> None:
        """``valid``: asked whether the session permits to write, with ``leaving``, unless the numbers of ``term`` show
        that it does."""
        self.epoch, self.line_epoch, self.previous = epoch, line_epoch, previous
        self.doubted, self.ended = doubted, asyncio.Event()
        self.lost, self.why = False, ""
        self._over = False  # as ``ended``, which costs a call
        self._term = SessionTerm(Clock()) if term is None else term
        self.leaving = False
        self.traceless = False  # neither this machine nor the store has data of the user: the record may be deleted
        self._valid, self._raise_epoch = valid, raise_epoch
        self._dirty: dict[str, str] = {}

    @property
    def known(self) -> bool:
        return self.previous.epoch > 0

    def valid(self) -> bool:
        term = self._term
        now = term.boottime()
        if now < term.until and -JUMP <= term.wall() - now - term.offset <= JUMP and not (self._over or self.leaving):
            return True
        return not self._over and self._valid(self.leaving)

    def certain(self) -> bool:
        term = self._term
        now = term.boottime()
        sure = now < term.certain_until and -JUMP <= term.wall() - now - term.offset <= JUMP
        return (sure and not (self._over or self.leaving)) or (self.valid() and not self.doubted.is_set())

    def last_writer(self, epoch: int) -> bool:
        return self.previous.since <= epoch <= self.epoch

    def mark_dirty(self, why: str, part: str = "") -> None:
        self._dirty[part] = why

    def mark_saved(self, part: str = "") -> None:
        self._dirty.pop(part, None)

    def marked(self, part: str) -> bool:
        """Return whether ``part`` is marked dirty."""
        return part in self._dirty

    @property
    def dirty(self) -> str:
        """Why the store lacks some data; empty if it lacks none."""
        return "; ".join(self._dirty.values())

    async def raise_epoch(self, above: int) -> None:
        await self._raise_epoch(self, above)

    def end(self, why: str, *, lost: bool) -> None:
        """End the lease; called by LeaseManager. ``lost``: another machine has the user, or may have."""
        if lost or not self.ended.is_set():
            self.lost, self.why = self.lost or lost, why
        self._over = True
        self.ended.set()


class SoleLease:
    """Lease for a store used by one machine only (Lease): epoch 0, never ends."""

    epoch, line_epoch, lost, why, known = 0, 0, False, "", True
    previous = PreviousLease(0, clean=True, line_epoch=0, since=0)

    def __init__(self) -> None:
        self.doubted, self.ended = asyncio.Event(), asyncio.Event()

    def valid(self) -> bool:
        return True

    def certain(self) -> bool:
        return True

    def last_writer(self, epoch: int) -> bool:
        return True

    def mark_dirty(self, why: str, part: str = "") -> None:
        """Do nothing: there is no release."""

    def mark_saved(self, part: str = "") -> None:
        """Do nothing: there is no release."""

    async def raise_epoch(self, above: int) -> None:
        raise OwnershipUnknown(
            f"the store belongs to machines which agree upon an owner (epoch {above}): this one does not take part"
        )
