"""The last lines of the log, for ``flyatc logs``; bounded in number and in bytes."""

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    number: int
    tenant: str | None
    line: bytes  # one JSON object, no newline


class Journal:
    def __init__(self, bound: int = 8 << 20) -> None:
        self._entries: deque[Entry] = deque()
        self._octets, self._bound, self._number = 0, bound, 0
        self._more = asyncio.Event()

    def add(self, tenant: str | None, line: bytes) -> None:
        self._number += 1
        self._entries.append(Entry(self._number, tenant, line))
        self._octets += len(line) + 100
        while self._octets > self._bound and len(self._entries) > 1:
            self._octets -= len(self._entries.popleft().line) + 100
        if not self._more.is_set():
            self._more.set()

    def since(self, number: int, tenant: str | None = None) -> list[Entry]:
        """Entries after ``number``, oldest first; of a tenant or of all whose address begins with ``tenant/``."""
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.number <= number:
                break
            if tenant is None or entry.tenant == tenant or (entry.tenant or "").startswith(f"{tenant}/"):
                found.append(entry)
        found.reverse()
        return found

    @property
    def last(self) -> int:
        return self._number

    async def more(self) -> None:
        """Returns after the next entry."""
        self._more.clear()
        await self._more.wait()
