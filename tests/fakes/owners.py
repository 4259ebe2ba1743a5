"""Leases as a test wants them."""

import asyncio

from flyatc.ownership.lease import HeldLease, PreviousLease


def previous(epoch: int, clean: bool, since: int = 0) -> PreviousLease:
    """``since`` 0: the epoch itself."""
    return PreviousLease(epoch, clean, 0, since or epoch)


class FakeLease(HeldLease):
    """Lease without a record. Epoch and line as given; ``before``: by default a clean one. Valid while ``may``."""

    def __init__(self, epoch: int, before: PreviousLease | None = None, line: int | None = None) -> None:
        super().__init__(
            epoch,
            epoch if line is None else line,
            before or previous(epoch - 1, clean=True),
            doubted=asyncio.Event(),
            valid=lambda leaving: self.may,
            raise_epoch=self._raise,
        )
        self.may = True

    async def _raise(self, lease: HeldLease, above: int) -> None:
        self.epoch = above + 1

    def expire(self, *, lost: bool) -> None:
        self.end("someone else has it" if lost else "the store was silent", lost=lost)
