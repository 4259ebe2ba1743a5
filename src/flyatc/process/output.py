"""Copy a child's output to the log, line by line and rate limited.

The pipes are not asyncio's: uvloop would give the child socketpairs, on which opening /dev/stdout fails (nginx, PHP).
And some versions of asyncio report a child's end only when its pipes are closed, which a grandchild may prevent.

Lines and Budget are pure.
"""

import asyncio
import os
from collections import deque

from flyatc.kit import tasks
from flyatc.kit.streams import Streams
from flyatc.observe.log import Log
from flyatc.process.isolation.refusals import shows_refusal
from flyatc.process.spawn import Pipe

BURST = 4 << 20  # bytes, envelopes included
RATE = 1 << 20  # bytes a second after that: the child waits in write(2), nothing is lost
KEPT = 20  # last lines, to explain the end of the child
PIECE = 16 << 10  # bytes read at once
TURN = 50  # lines logged in one iteration of the loop: half a millisecond
CROWDED_PAUSE = 0.05
SILENCE = 0.2  # s; wait for data in pipes that another process keeps open after the group is gone
LAST_WORDS = 2.0  # s; limit of reading after the end, even if data keeps coming


class Output:
    """The output of one child. Call ``open`` twice, then always ``close`` once."""

    def __init__(self, tenant: str, log: Log) -> None:
        self._tenant, self._log = tenant, log
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._budget = Budget(BURST, RATE, asyncio.get_running_loop().time())
        self._pipes: list[Pipe] = []
        self._readers: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._bytes_read = 0
        self.advice: str | None = None  # for the case that the output shows that the app was refused something
        self.refused: str | None = None  # the advice, once the output has shown that

    def open(self, stream: str) -> int:
        """Return the child's descriptor for ``stream`` (stdout, stderr); the caller closes its own copy.

        Raises OSError."""
        pipe = Pipe()
        self._pipes.append(pipe)
        self._readers.append(tasks.start(self._copy(pipe, stream), f"{stream} of {self._tenant}"))
        return pipe.theirs

    def streams(self) -> Streams:
        """Return stdout and stderr for the child. Raises OSError."""
        stdout = self.open("stdout")
        try:
            return Streams(None, stdout, self.open("stderr"))
        except OSError:
            os.close(stdout)
            raise

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._kept)

    async def wait_drained(self, patience: float) -> bool:
        """Wait up to ``patience`` seconds for the end of the output; return whether it was reached."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=patience)
        return all(reader.done() for reader in self._readers)

    async def close(self) -> None:
        """Read what is left in the pipes; wait for their end only as long as data arrives."""
        self._ending.set()
        clock = asyncio.get_running_loop().time
        deadline, before = clock() + LAST_WORDS, -1
        while self._bytes_read != before and clock() < deadline:
            before = self._bytes_read
            if await self.wait_drained(SILENCE):
                break
        for pipe in self._pipes:
            pipe.close()  # the readers see the end of their streams and log what they hold
        if not await self.wait_drained(SILENCE):
            for reader in self._readers:
                reader.cancel()
            await self.wait_drained(SILENCE)

    async def _copy(self, pipe: Pipe, stream: str) -> None:
        lines = Lines()
        while data := await pipe.read(PIECE):
            self._bytes_read += len(data)
            await self._log_lines(stream, lines.feed(data))
        await self._log_lines(stream, lines.end())

    async def _log_lines(self, stream: str, lines: list[str]) -> None:
        for start in range(0, len(lines), TURN):
            some = lines[start : start + TURN]
            for line in some:
                self._kept.append(line)
                self._log.output(self._tenant, stream, line)
                if self.advice is not None and self.refused is None and shows_refusal(line):
                    self.refused = self.advice
                    self._log.event("warning", "the app was refused something", tenant=self._tenant, line=line[:500],
                                    advice=self.advice)  # fmt: skip
            await self._throttle(sum(map(len, some)) + ENVELOPE * len(some))

    async def _throttle(self, size: int) -> None:
        """Wait until more may be logged. No wait once the child is ending: only the pipes' content can follow."""
        now = asyncio.get_running_loop().time()
        if debt := self._budget.spend(size, now):
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


LONGEST = 16 << 10  # bytes; a longer line is logged in parts
ENVELOPE = 100  # bytes that the log adds to each line


class Lines:
    """Splits a stream of bytes into lines. Memory is bounded by LONGEST."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        found = [part for line in complete for part in _parts(line)]
        while len(self._rest) > LONGEST:
            cut = _boundary(self._rest)
            found.append(_text(self._rest[:cut]))
            self._rest = self._rest[cut:]
        return found

    def end(self) -> list[str]:
        """Return the rest after the last newline, if any."""
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
    """Return the last position up to LONGEST that is not inside a UTF-8 character."""
    for cut in range(LONGEST, LONGEST - 4, -1):
        if line[cut] & 0xC0 != 0x80:
            return cut
    return LONGEST


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


class Budget:
    """Rate limit: ``burst`` bytes at once, then ``rate`` a second. Overspending is a debt to wait for."""

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst, self._rate = float(burst), rate
        self._left, self._at = float(burst), now

    def spend(self, size: int, now: float) -> float:
        """Spend; return the seconds to wait before the next call."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - size
        self._at = now
        return max(0.0, -self._left / self._rate)
