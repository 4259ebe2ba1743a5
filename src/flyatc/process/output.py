"""What a child says, line by line into our log.

The pipes are our own, not asyncio's: uvloop would give the child socketpairs, on which opening /dev/stdout fails
(nginx, PHP); and some versions of asyncio call a child ended only when its pipes are closed, which a grandchild may put
off for ever.
"""

import asyncio
from collections import deque

from flyatc.kit import tasks
from flyatc.observe.log import Log
from flyatc.process.lines import ENVELOPE, Budget, Lines
from flyatc.process.pipe import Pipe

BURST = 4 << 20  # octets, envelopes included
RATE = 1 << 20  # octets a second after that: the child waits in write(2), nothing is lost
KEPT = 20  # lines, for whoever asks why it ended
PIECE = 16 << 10  # octets read at once
TURN = 50  # lines told in one turn of the loop: half a millisecond, then it is the others' turn
CROWDED_PAUSE = 0.05
SILENCE = 0.2  # s; how long we listen to a pipe that somebody else keeps open after the group is gone
LAST_WORDS = 2.0  # s; at most, even if it goes on talking


class Output:
    """The output of one child. ``open`` twice, then ``close`` once, always."""

    def __init__(self, tenant: str, log: Log) -> None:
        self._tenant, self._log = tenant, log
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._budget = Budget(BURST, RATE, asyncio.get_running_loop().time())
        self._pipes: list[Pipe] = []
        self._readers: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._heard = 0

    def open(self, stream: str) -> int:
        """The descriptor which the child gets for ``stream`` (stdout, stderr); the caller closes its own copy.

        Raises OSError."""
        pipe = Pipe()
        self._pipes.append(pipe)
        self._readers.append(tasks.start(self._carry(pipe, stream), f"{stream} of {self._tenant}"))
        return pipe.theirs

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._kept)

    async def heard_out(self, patience: float) -> bool:
        """Whether all that can be said has been; waits up to ``patience`` seconds for it."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=patience)
        return all(reader.done() for reader in self._readers)

    async def close(self) -> None:
        """Takes what is left in the pipes; waits for their end only as long as something comes."""
        self._ending.set()
        clock = asyncio.get_running_loop().time
        deadline, before = clock() + LAST_WORDS, -1
        while self._heard != before and clock() < deadline:
            before = self._heard
            if await self.heard_out(SILENCE):
                break
        for pipe in self._pipes:
            pipe.close()  # the readers see the end of their streams, and tell what they hold
        if not await self.heard_out(SILENCE):
            for reader in self._readers:
                reader.cancel()
            await self.heard_out(SILENCE)

    async def _carry(self, pipe: Pipe, stream: str) -> None:
        lines = Lines()
        while data := await pipe.read(PIECE):
            self._heard += len(data)
            await self._tell(stream, lines.feed(data))
        await self._tell(stream, lines.end())

    async def _tell(self, stream: str, lines: list[str]) -> None:
        for start in range(0, len(lines), TURN):
            some = lines[start : start + TURN]
            for line in some:
                self._kept.append(line)
                self._log.output(self._tenant, stream, line)
            await self._rest(sum(map(len, some)) + ENVELOPE * len(some))

    async def _rest(self, octets: int) -> None:
        """Until more may be told. Once the child is ending only what is in the pipes can come: it need not wait."""
        now = asyncio.get_running_loop().time()
        if debt := self._budget.spend(octets, now):
            await self._wait(debt)
        while self._log.crowded and not self._ending.is_set():
            await self._wait(CROWDED_PAUSE)
        await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass
