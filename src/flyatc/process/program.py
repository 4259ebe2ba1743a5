"""A program of our own beside the apps, such as litestream: spawned on the way in, ended with its group on the way out.
It is on record as the apps are, so that the next start ends what a killed daemon left running."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.types import Exit
from flyatc.process import group, launch_plan
from flyatc.process.output import Lines
from flyatc.process.pidfiles import Records
from flyatc.process.spawn import Leader, Pipe, spawn

OnLine = Callable[[str, str], None]  # of the stream (stdout, stderr) and a line

PIECE = 16 << 10  # octets read at once
LAST_WORDS = 0.5  # s; for what is still in its pipes when it has ended
REAPED = 5.0  # s

_numbers = count(1 << 16)  # for notes of launches; apps have theirs by port


class RunningProgram:
    """Made by ``hold``."""

    def __init__(self, hear: OnLine) -> None:
        self._hear = hear
        self.exited = asyncio.Event()
        self.leader: Leader | None = None
        self._pipes: list[Pipe] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def exit(self) -> Exit | None:
        """None while it runs."""
        code = None if self.leader is None else self.leader.returncode
        return None if code is None else Exit(code if code >= 0 else None, None if code >= 0 else -code)

    @property
    def pid(self) -> int:
        assert self.leader is not None, "spawned before anybody gets hold of it"
        return self.leader.pid

    def spawn(self, launch: launch_plan.Launch) -> Leader:
        """Raises StartFailed, OSError."""
        self._pipes = [Pipe(), Pipe()]
        try:
            self.leader = leader = spawn(launch, self._pipes[0].theirs, self._pipes[1].theirs)
        finally:
            for pipe in self._pipes:
                os.close(pipe.theirs)
        readers = [
            tasks.start(self._carry(pipe, stream), f"{stream} of {launch.argv[0]}")
            for pipe, stream in zip(self._pipes, ("stdout", "stderr"), strict=True)
        ]
        self._tasks = [*readers, tasks.start(self._watch(leader, readers), f"end of {launch.argv[0]}")]
        return leader

    async def _carry(self, pipe: Pipe, stream: str) -> None:
        lines = Lines()
        while data := await pipe.read(PIECE):
            for line in lines.feed(data):
                self._hear(stream, line)
        for line in lines.end():
            self._hear(stream, line)

    async def _watch(self, leader: Leader, readers: list[asyncio.Task[None]]) -> None:
        await leader.wait()
        await asyncio.wait(readers, timeout=LAST_WORDS)
        self.exited.set()

    async def end(self, grace: float, hurry: Callable[[], bool]) -> group.Needed:
        """Returns when nobody of the group is left."""
        needed = group.Needed.NOTHING
        if self.leader is not None:
            needed = await group.end(self.leader.group, grace, hurry)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=REAPED)
        for pipe in self._pipes:
            pipe.close()
        return needed


@asynccontextmanager
async def hold(
    argv: Sequence[str],
    environ: Mapping[str, str],
    hear: OnLine,
    grace: float,
    hurry: Callable[[], bool],
    directory: Path,
    records: Records,
) -> AsyncIterator[RunningProgram]:
    """It runs inside. On the way out: SIGTERM, ``grace`` seconds, SIGKILL; or SIGKILL at once where ``hurry()``.
    Then nobody of it is left, also where the caller was cancelled. Raises StartFailed."""
    program, name = RunningProgram(hear), Path(argv[0]).name
    launch = launch_plan.Launch(argv=tuple(argv), env=dict(environ), directory=str(directory), ready=None)
    try:
        try:
            with records.launching(name, environ, next(_numbers)):
                records.add(name, program.spawn(launch).group)
        except OSError as error:
            raise StartFailed(f"{name} cannot be started and put on record: {error}") from error
        yield program
    finally:
        needed = await tasks.to_the_end(tasks.start(program.end(grace, hurry), f"end of {name}"))
        if program.leader is not None and needed is not group.Needed.MORE:
            records.remove(program.leader.group)
