"""A user's databases, owned by this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PreviousLease:
    """The ownership that a lease replaced. ``epoch`` 0: the user had no owner. ``clean``: no owner, or the store has
    all data. ``line``: the replica path written last (litestream mode); it has the data, or an earlier one if it is
    empty.

    ``since``: all owners from this epoch on were the same machine."""

    epoch: int
    clean: bool
    line: int
    since: int

    def covers(self, epoch: int) -> bool:
        """Return whether no other machine can have written since a local file recorded at ``epoch``. Epochs before the
        last one count too: a daemon may be killed between taking a user and recording the new epoch."""
        return self.since <= epoch <= self.epoch


class HeldLease:
    """The right to write one user's databases. ``epoch`` and ``line`` change by ``raise_epoch`` only.

    ``doubted``: set while the session is overdue for confirmation; new requests are paused until it is confirmed.
    ``ended``: set when the lease ends; the app is killed without a final save. Never cleared."""

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
        self.traceless = False  # neither this machine nor the store has data of the user: the record may be deleted
        self._valid, self._raise_epoch = valid, raise_epoch
        self._dirty: dict[str, str] = {}

    @property
    def known(self) -> bool:
        """True if the user had an owner record before."""
        return self.former.epoch > 0

    def valid(self) -> bool:
        """Return whether this machine may write now. Cheap: called before each request and each response is passed
        on."""
        return not self.ended.is_set() and self._valid(self.leaving)

    def mark_dirty(self, why: str, part: str = "") -> None:
        """Note that a save of ``part`` (such as a tenant) failed for good; the release then records ``dirty``."""
        self._dirty[part] = why

    def mark_saved(self, part: str = "") -> None:
        """Clear the mark of ``part``: its data are in the store after all."""
        self._dirty.pop(part, None)

    def marked(self, part: str) -> bool:
        """Return whether ``part`` is marked dirty."""
        return part in self._dirty

    @property
    def dirty(self) -> str:
        """Why the store lacks some data; empty if it lacks none."""
        return "; ".join(self._dirty.values())

    async def raise_epoch(self, above: int) -> None:
        """Write an epoch above ``above``, which the store's data had and the record had not; to be called before any
        pointer is stamped. Raises OwnershipUnknown; if it fails, the lease is lost."""
        await self._raise_epoch(self, above)

    def end(self, why: str, *, lost: bool) -> None:
        """End the lease; called by LeaseManager. ``lost``: another machine has the user, or may have."""
        if lost or not self.ended.is_set():
            self.lost, self.why = self.lost or lost, why
        self.ended.set()
