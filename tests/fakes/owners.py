"""Who may write, as a test wants it."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class FakeFormer:
    epoch: int
    clean: bool
    since: int = 0  # 0: the epoch itself

    def covers(self, epoch: int) -> bool:
        return (self.since or self.epoch) <= epoch <= self.epoch


class FakeOwned:
    """Epoch and line as given; ``former``: by default a clean one."""

    def __init__(self, epoch: int, former: FakeFormer | None = None, line: int | None = None) -> None:
        self.epoch, self.line = epoch, epoch if line is None else line
        self.former = former or FakeFormer(epoch - 1, clean=True)
        self.doubted, self.ended = asyncio.Event(), asyncio.Event()
        self.lost, self.why = False, ""
        self.dirty: list[str] = []
        self.may = True

    def valid(self) -> bool:
        return self.may and not self.ended.is_set()

    def mark_dirty(self, why: str, part: str = "") -> None:
        self.dirty.append(why)

    def mark_saved(self, part: str = "") -> None:
        self.dirty.clear()

    async def raise_epoch(self, above: int) -> None:
        self.epoch = above + 1

    def end(self, *, lost: bool) -> None:
        self.lost, self.why = lost, "somebody else has it" if lost else "the store was silent"
        self.ended.set()
