"""One database from a replica to a whole, checked file in a fresh folder; put in its place by somebody else.

Into an *empty* folder, always: beside a stale ``-wal`` litestream restores without a word, its own integrity check
passes, and SQLite plays the old pages into the new file. ``-force`` does not help where the database itself is missing.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from flyatc.databases import files, sqlite
from flyatc.databases.litestream import program
from flyatc.databases.litestream.engine import Engine
from flyatc.databases.litestream.ports import Run, Running
from flyatc.databases.tools import Tools
from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.exits import Exit
from flyatc.kit.progress import Progress

STALL = 30.0  # s without a new octet; litestream itself tries for two minutes, and on a silent endpoint for ever
LOOK = 0.1  # s; between two looks at how far it is
FIRST_LOOK = 0.01
KEPT = 5  # lines of its output


class NotRestored(Exception):
    """What is in the replica could not be made a database; says why."""


class NoSuchTime(NotRestored):
    """The replica has nothing from before that time."""


async def restore(
    url: str, place: Path, at: float | None, octets: int, engine: Engine, run: Run, tools: Tools, progress: Progress
) -> Path:
    """A checked database below ``place``, which is new. ``at``: Unix time of the state that is wanted; None: the last.
    ``octets``: of the replica, as a measure for progress.

    Raises NotRestored; LitestreamMissing, OSError."""
    raw = place / "database"
    moment = [] if at is None else ["-timestamp", datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")]
    argv = [str(await engine.program()), "restore", "-o", str(raw), *moment, url]
    environ = program.environment(engine.environ, program.FOR_RESTORES)
    said: deque[str] = deque(maxlen=KEPT)
    try:
        # Killed when we leave: who leaves early does not want it any more.
        async with run(argv, environ, _keep(said), 0.0, lambda: True, place) as running:
            await _watch(running, Path(f"{raw}.tmp"), octets, progress)
            ended = running.exit
    except StartFailed as error:
        raise NotRestored(str(error)) from error
    if ended is None or ended.code != 0 or not raw.exists():
        raise _failure(ended, list(said))
    try:
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise NotRestored(f"what it restored is damaged: {error}") from error
    return raw


def _keep(said: deque[str]) -> Callable[[str, str], None]:
    def hear(stream: str, line: str) -> None:
        if line.strip():
            said.append(line)

    return hear


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
                raise NotRestored(f"nothing has come for {STALL:.0f} seconds")
    finally:
        ended.cancel()
        await asyncio.wait([ended])


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return files.octets(path)
    return 0


def _failure(ended: Exit | None, said: list[str]) -> NotRestored:
    last = said[-1].removeprefix("Error: ") if said else str(ended)
    with contextlib.suppress(msgspec.MsgspecError):
        last = str(msgspec.json.decode(last, type=dict[str, object]).get("error", last))
    if "timestamp does not exist" in last:
        return NoSuchTime(last)
    if "no matching backup files" in last:
        last = "the files which its state begins with are missing"
    return NotRestored(f"litestream says: {last}")
