"""The lease protocol that the databases need (``ownership`` implements it), and a stand-in without a shared store."""

import asyncio
from typing import Protocol

from flyatc.kit.errors import OwnershipUnknown


class PreviousHolder(Protocol):
    """The lease record found when the user was acquired."""

    @property
    def epoch(self) -> int:
        """Epoch of that record; 0: there was none."""

    @property
    def clean(self) -> bool:
        """True if there was no holder, or the holder released it: the store then has all that was ever written."""

    def covers(self, epoch: int) -> bool:
        """Return whether no other machine can have written since a local file recorded at ``epoch``."""


def last_writer(previous: PreviousHolder, own: int, epoch: int) -> bool:
    """Return whether no other machine can have written since a local file recorded at ``epoch``.

    All epochs above the one that was taken over, up to ``own``, are ours: after a save that failed an app may be
    started again while the lease is still held."""
    return previous.epoch < epoch <= own or previous.covers(epoch)


class Lease(Protocol):
    """The right to write the databases of one user, from its acquisition to its release."""

    @property
    def epoch(self) -> int:
        """Epoch of the record written by this machine; higher than any before it."""

    @property
    def line(self) -> int:
        """Epoch of the last acquisition without a clean release: earlier writers may be unaware of it."""

    @property
    def former(self) -> PreviousHolder: ...

    @property
    def ended(self) -> asyncio.Event:
        """Set when the lease has expired or is lost: from then on nothing may be written."""

    @property
    def lost(self) -> bool:
        """True if it has ended and another machine may write by now: unsaved changes then belong to no history."""

    @property
    def why(self) -> str:
        """Reason of the end."""

    def valid(self) -> bool:
        """Return whether this machine may write at this moment. Cheap."""

    def mark_dirty(self, why: str, part: str = "") -> None:
        """Record that the store lacks some of ``part`` (a tenant): prevents a clean release."""

    def mark_saved(self, part: str = "") -> None:
        """Record that the store has all of ``part`` again."""

    async def raise_epoch(self, above: int) -> None:
        """Raise the epoch above ``above``, which was found in the store's data and is higher than the record's.

        Raises OwnershipUnknown, HeldElsewhere."""


class _NoHolder:
    epoch, clean = 0, True

    def covers(self, epoch: int) -> bool:
        return True


class SoleLease:
    """Lease for a store used by one machine only: epoch 0, never ends."""

    epoch, line, lost, why, known = 0, 0, False, "", True
    former: PreviousHolder = _NoHolder()

    def __init__(self) -> None:
        self.doubted, self.ended = asyncio.Event(), asyncio.Event()

    def valid(self) -> bool:
        return True

    def mark_dirty(self, why: str, part: str = "") -> None:
        """Do nothing: there is no release."""

    def mark_saved(self, part: str = "") -> None:
        """Do nothing: there is no release."""

    async def raise_epoch(self, above: int) -> None:
        raise OwnershipUnknown(
            f"the store belongs to machines which agree upon an owner (epoch {above}): this one does not take part"
        )
