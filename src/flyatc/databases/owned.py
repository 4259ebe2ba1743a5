"""What the databases need to know of who may write them. ``ownership`` makes such an object; this room only asks it."""

import asyncio
from typing import Protocol

from flyatc.kit.errors import OwnershipUnknown


class Former(Protocol):
    """What was taken over."""

    @property
    def epoch(self) -> int:
        """Of the record which was found; 0: there was none."""

    @property
    def clean(self) -> bool:
        """Nobody had it, or who had it has released it: the store has all that was ever written."""

    def covers(self, epoch: int) -> bool:
        """Whether nobody else can have written since a local file whose record tells of this epoch."""


def last_writer(former: Former, own: int, epoch: int) -> bool:
    """Return whether no other machine can have written since a local file whose record has ``epoch``.

    All epochs above the one that was taken over, up to ``own``, are ours: after a save that failed an app may be
    started again while its user is still held."""
    return former.epoch < epoch <= own or former.covers(epoch)


class Owned(Protocol):
    """A user who is ours, from the taking to the release."""

    @property
    def epoch(self) -> int:
        """Of the record that we wrote; higher than any before it."""

    @property
    def line(self) -> int:
        """The epoch of the last taking which was not a clean one: those who wrote before it may not know of us."""

    @property
    def former(self) -> Former: ...

    @property
    def ended(self) -> asyncio.Event:
        """Expired or lost: from now on nothing may be written."""

    @property
    def lost(self) -> bool:
        """It has ended, and somebody else may write by now: what was not saved belongs to no line of versions."""

    @property
    def why(self) -> str:
        """Of the end."""

    def valid(self) -> bool:
        """Whether we may write at this moment. Cheap."""

    def mark_dirty(self, why: str, part: str = "") -> None:
        """The store does not have all of ``part`` (a tenant): it must not be released as if it had."""

    def mark_saved(self, part: str = "") -> None:
        """It has, after all."""

    async def rise(self, above: int) -> None:
        """The store's data know a higher epoch than the record: from now on ours is higher still.

        Raises OwnershipUnknown, HeldElsewhere."""


class _Nobody:
    epoch, clean = 0, True

    def covers(self, epoch: int) -> bool:
        return True


class Sole:
    """The owner where nothing is shared, so that there is nobody to agree with: stamps nothing, never ends."""

    epoch, line, lost, why, known = 0, 0, False, "", True
    former: Former = _Nobody()

    def __init__(self) -> None:
        self.doubted, self.ended = asyncio.Event(), asyncio.Event()

    def valid(self) -> bool:
        return True

    def mark_dirty(self, why: str, part: str = "") -> None:
        """Nobody asks."""

    def mark_saved(self, part: str = "") -> None:
        """Nobody asks."""

    async def rise(self, above: int) -> None:
        raise OwnershipUnknown(
            f"the store belongs to machines which agree upon an owner (epoch {above}): this one does not take part"
        )
