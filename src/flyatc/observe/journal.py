"""The latest log lines in memory, for ``flyatc logs``, bounded in bytes."""

import asyncio
from collections import deque

# (number, tenant or None, JSON object without newline). A tuple, since every request adds one
Entry = tuple[int, str | None, bytes]


class Journal:
    def __init__(self, bound: int = 4 << 20) -> None:
        self._entries: deque[Entry] = deque()
        self._octets, self._bound = 0, bound
        self._more = asyncio.Event()
        self._readers = 0  # that wait
        self.last = 0  # the number of the newest entry

    def add(self, tenant: str | None, line: bytes) -> None:
        self.last += 1
        self._entries.append((self.last, tenant, line))
        self._octets += len(line)
        while self._octets > self._bound:
            self._octets -= len(self._entries.popleft()[2])
        if self._readers:
            self._more.set()

    def since(self, number: int, tenant: str | None = None) -> list[Entry]:
        """Return the entries after ``number``, oldest first; of ``tenant`` and of addresses below ``tenant/``."""
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry[0] <= number:
                break
            if tenant is None or entry[1] == tenant or (entry[1] or "").startswith(f"{tenant}/"):
                found.append(entry)
        found.reverse()
        return found

    async def more(self) -> None:
        """Wait for the next entry."""
        self._more.clear()
        self._readers += 1
        try:
            await self._more.wait()
        finally:
            self._readers -= 1
