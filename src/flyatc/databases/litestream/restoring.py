"""One database from a replica to a whole, checked file in a fresh folder; put in its place by somebody else.

Into an *empty* folder, always: beside a stale ``-wal`` litestream restores without a word, its own integrity check
passes, and SQLite plays the old pages into the new file. ``-force`` does not help where the database itself is missing.
"""

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from flyatc.databases import causes, files, room, sqlite
from flyatc.databases.causes import Cause, Room
from flyatc.databases.litestream import program
from flyatc.databases.litestream.means import Means
from flyatc.databases.litestream.ports import Running
from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.exits import Exit
from flyatc.kit.progress import Progress

STALL = 30.0  # s without a new octet; litestream itself tries for two minutes, and on a silent endpoint for ever
LOOK = 0.1  # s; between two looks at how far it is
FIRST_LOOK = 0.01
KEPT = 5  # lines of its output, of the first and of the last ones
LONGEST = 2000  # characters of a line


class NotRestored(Exception):
    """No database was made of what is in the replica; says why. ``cause``: whether the replica is to blame."""

    def __init__(self, words: str, cause: Cause, room: Room | None = None) -> None:
        super().__init__(words)
        self.cause, self.room = cause, room

    @property
    def advice(self) -> str:
        """Of a cause that passes."""
        return causes.advice(self.cause, str(self), self.room)


class NoSuchTime(NotRestored):
    """The replica has nothing from before that time."""


class Output:
    """What litestream said: its first lines, where Go says why it gave up, and its last ones."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=KEPT)

    def hear(self, stream: str, line: str) -> None:
        if line.strip():
            (self._first if len(self._first) < KEPT else self._last).append(line[:LONGEST])

    @property
    def lines(self) -> list[str]:
        return [*self._first, *self._last]


async def restore(
    url: str, place: Path, at: float | None, octets: int, means: Means, progress: Progress, needed: int = 0
) -> Path:
    """A checked database below ``place``, which is new. ``at``: Unix time of the state that is wanted; None: the last.
    ``octets``: of the replica, as a measure for progress. ``needed``: octets which it surely takes; 0: not known.

    Raises NotRestored; LitestreamMissing, OSError."""
    engine, tools = means.engine, means.tools
    before = await tools.quick.run(partial(room.seen, place, needed))
    if before is not None and needed and before.short:
        raise NotRestored("not begun", Cause.FULL, before)
    raw = place / "database"
    moment = [] if at is None else ["-timestamp", datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")]
    argv = [str(await engine.program()), "restore", "-o", str(raw), *moment, url]
    environ = program.environment(engine.environ, program.FOR_RESTORES)
    said = Output()
    try:
        # Killed when we leave: who leaves early does not want it any more.
        async with means.run(argv, environ, said.hear, 0.0, lambda: True, place) as running:
            await _watch(running, Path(f"{raw}.tmp"), octets, progress)
            ended = running.exit
    except StartFailed as error:
        raise NotRestored(str(error), Cause.UNKNOWN) from error
    if ended is None or ended.code != 0 or not raw.exists():
        after = await tools.quick.run(partial(room.seen, place, needed))
        raise _failure(ended, said.lines, str(place), before, after)
    try:
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise NotRestored(f"what it restored is damaged: {error}", Cause.DAMAGED) from error
    return raw


async def _watch(running: Running, growing: Path, octets: int, progress: Progress) -> None:
    """Until it has ended. Raises NotRestored when nothing comes any more."""
    clock, before, pause = asyncio.get_running_loop().time, -1, FIRST_LOOK
    since = clock()
    ended = tasks.start(running.exited.wait(), "a restore's end")
    try:
        while not (await asyncio.wait([ended], timeout=pause))[0]:
            pause = min(LOOK, 2 * pause)
            done = _size(growing)
            if done != before:
                before, since = done, clock()
                progress("restore", done, max(done, octets))
            elif clock() - since > STALL:
                raise NotRestored(f"nothing has come for {STALL:.0f} seconds", Cause.STORE_AWAY)
    finally:
        ended.cancel()
        await asyncio.wait([ended])


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return files.octets(path)
    return 0


def _failure(ended: Exit | None, said: list[str], place: str, before: Room | None, after: Room | None) -> NotRestored:
    """``place``: of the restore. ``before`` and ``after`` it: the room there."""
    cause = causes.of_litestream(said, ended, place, after.free if after is not None else causes.FULL_BELOW)
    words = _words(said, ended, cause)
    return NoSuchTime(words, cause) if cause is Cause.NO_SUCH_TIME else NotRestored(words, cause, before)


def _words(said: list[str], ended: Exit | None, cause: Cause) -> str:
    if cause in (Cause.KILLED, Cause.MEMORY) or not said:
        return f"{said[0]}; {ended}" if said else f"litestream ended: {ended}"
    last = said[-1].removeprefix("Error: ")
    with contextlib.suppress(msgspec.MsgspecError):
        last = str(msgspec.json.decode(last, type=dict[str, object]).get("error", last))
    if "no matching backup files" in last:
        last = "the files which its state begins with are missing"
    return f"litestream says: {last}"
