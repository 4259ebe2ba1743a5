"""A user's databases, owned by this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PreviousLease:
    """Whom it was taken over from. ``epoch`` 0: nobody. ``clean``: nobody, or the store has all of it. ``line``: the
    path which was written last (litestream mode); it, or one before it if that is still empty, has the data.

    ``since``: from this epoch on all owners were the same machine."""

    epoch: int
    clean: bool
    line: int
    since: int

    def covers(self, epoch: int) -> bool:
        """Whether nobody else can have written since a local file whose record tells of this epoch. Not only the last
        one: a daemon may be killed after it took a user, and before it wrote the new epoch down."""
        return self.since <= epoch <= self.epoch


class HeldLease:
    """``epoch`` and ``line`` change by ``raise_epoch`` only.

    ``doubted``: the session has not been confirmed for long: new requests are held. Cleared when it is confirmed.
    ``ended``: no writer any more: the app is killed now, without a last save. Never cleared."""

    def __init__(
        self,
        epoch: int,
        line: int,
        former: PreviousLease,
        *,
        doubted: asyncio.Event,
        valid: Callable[[bool], bool],
        raise_epoch: Callable[["HeldLease", int], Awaitable[None]],
    ) -> None:
        self.epoch, self.line, self.former = epoch, line, former
        self.doubted, self.ended = doubted, asyncio.Event()
        self.lost, self.why = False, ""
        self.leaving = False
        self.traceless = False  # neither this machine nor the store has anything of the user: its record may go
        self._valid, self._raise_epoch = valid, raise_epoch
        self._dirty: dict[str, str] = {}

    @property
    def known(self) -> bool:
        """Whether anything was on record of the user before."""
        return self.former.epoch > 0

    def valid(self) -> bool:
        """Whether we may write now. Cheap: to be asked before each request is let in, and each answer let out."""
        return not self.ended.is_set() and self._valid(self.leaving)

    def mark_dirty(self, why: str, part: str = "") -> None:
        """A save of ``part`` (a tenant, say) has failed for good: when it is released the record will say so."""
        self._dirty[part] = why

    def mark_saved(self, part: str = "") -> None:
        """What was dirty is in the store after all."""
        self._dirty.pop(part, None)

    def marked(self, part: str) -> bool:
        """Whether it is known that ``part`` is dirty."""
        return part in self._dirty

    @property
    def dirty(self) -> str:
        """Why the store has not all; empty: it has."""
        return "; ".join(self._dirty.values())

    async def raise_epoch(self, above: int) -> None:
        """The store's data tell of a higher epoch than the record did: writes one above it, before anything is
        stamped. Raises OwnershipUnknown; HeldElsewhere where it is lost by that."""
        await self._raise_epoch(self, above)

    def end(self, why: str, *, lost: bool) -> None:
        """For the keeper. ``lost``: somebody else has it, or may have."""
        if lost or not self.ended.is_set():
            self.lost, self.why = self.lost or lost, why
        self.ended.set()
