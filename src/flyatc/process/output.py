"""What a child says, line by line into our log.

The pipes are our own, not asyncio's: uvloop would give the child socketpairs, on which opening /dev/stdout fails
(nginx, PHP); and some versions of asyncio call a child ended only when its pipes are closed, which a grandchild may put
off for ever.

Bytes into lines, and what lines may cost. Pure.
"""

import asyncio
from collections import deque

from flyatc.kit import tasks
from flyatc.observe.log import Log
from flyatc.process.spawn import Pipe

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


LONGEST = 16 << 10  # octets; a longer line is told in parts
ENVELOPE = 100  # octets; what the log adds to each line


class Lines:
    """Cuts a stream of octets into lines, wherever its pieces begin and end. Memory is bounded by LONGEST."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines which are complete now."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        found = [part for line in complete for part in _parts(line)]
        while len(self._rest) > LONGEST:
            cut = _boundary(self._rest)
            found.append(_text(self._rest[:cut]))
            self._rest = self._rest[cut:]
        return found

    def end(self) -> list[str]:
        """What came after the last newline, if anything did."""
        rest, self._rest = self._rest, b""
        return _parts(rest) if rest else []


def _parts(line: bytes) -> list[str]:
    line = line.removesuffix(b"\r")
    found = []
    while len(line) > LONGEST:
        cut = _boundary(line)
        found.append(_text(line[:cut]))
        line = line[cut:]
    return [*found, _text(line)]


def _boundary(line: bytes) -> int:
    """The last place up to LONGEST which is not inside a UTF-8 character."""
    for cut in range(LONGEST, LONGEST - 4, -1):
        if line[cut] & 0xC0 != 0x80:
            return cut
    return LONGEST


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


class Budget:
    """So many octets at once, then so many a second. What is spent beyond it is a debt, to be waited off."""

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst, self._rate = float(burst), rate
        self._left, self._at = float(burst), now

    def spend(self, octets: int, now: float) -> float:
        """Seconds to wait before more is spent."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - octets
        self._at = now
        return max(0.0, -self._left / self._rate)
