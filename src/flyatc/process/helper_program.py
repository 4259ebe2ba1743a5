"""A helper program such as litestream, as a context manager: spawned on entry, ended with its group on exit.
It is recorded as the apps are, so that the next start ends it if the daemon is killed."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

from flyatc.kit import tasks
from flyatc.kit.errors import StartFailed
from flyatc.kit.types import Exit
from flyatc.process import launch_plan, termination
from flyatc.process.child_records import Records
from flyatc.process.output import Lines
from flyatc.process.spawn import Leader, Pipe, spawn

WithoutLinks = Callable[[Callable[[], Leader]], Leader]
OnLine = Callable[[str, str], None]  # called with the stream (stdout, stderr) and a line

PIECE = 16 << 10  # bytes read at once
LAST_WORDS = 0.5  # s; for output still in the pipes when it has ended
REAPED = 5.0  # s; for the process to be reaped and its output read

_numbers = count(1 << 16)  # for names of launch notes, beyond all port numbers


class RunningProgram:
    """A running program; created by ``hold``."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self.exited = asyncio.Event()
        self.leader: Leader | None = None
        self._pipes: list[Pipe] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def exit(self) -> Exit | None:
        """Exit status; None while it runs."""
        code = None if self.leader is None else self.leader.returncode
        return None if code is None else Exit(code if code >= 0 else None, None if code >= 0 else -code)

    @property
    def pid(self) -> int:
        assert self.leader is not None, "spawned before it is handed out"
        return self.leader.pid

    def spawn(self, launch: launch_plan.Launch, without_links: WithoutLinks | None) -> Leader:
        """Start the program and the readers of its output. Raises StartFailed, OSError."""
        self._pipes = [Pipe(), Pipe()]
        start = partial(spawn, launch, self._pipes[0].theirs, self._pipes[1].theirs)
        try:
            self.leader = leader = start() if without_links is None else without_links(start)
        finally:
            for pipe in self._pipes:
                os.close(pipe.theirs)
        readers = [
            tasks.start(self._copy(pipe, stream), f"{stream} of {launch.argv[0]}")
            for pipe, stream in zip(self._pipes, ("stdout", "stderr"), strict=True)
        ]
        self._tasks = [*readers, tasks.start(self._watch(leader, readers), f"end of {launch.argv[0]}")]
        return leader

    async def _copy(self, pipe: Pipe, stream: str) -> None:
        lines = Lines()
        while data := await pipe.read(PIECE):
            for line in lines.feed(data):
                self._on_line(stream, line)
        for line in lines.end():
            self._on_line(stream, line)

    async def _watch(self, leader: Leader, readers: list[asyncio.Task[None]]) -> None:
        await leader.wait()
        await asyncio.wait(readers, timeout=LAST_WORDS)
        self.exited.set()

    async def end(self, grace: float, hurry: Callable[[], bool]) -> termination.EndedBy:
        """End all processes of the group and close the pipes."""
        ended_by = termination.EndedBy.NOTHING
        if self.leader is not None:
            ended_by = await termination.end_group(self.leader.group, grace, hurry)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=REAPED)
        for pipe in self._pipes:
            pipe.close()
        return ended_by


@asynccontextmanager
async def hold(
    argv: Sequence[str],
    environ: Mapping[str, str],
    on_line: OnLine,
    grace: float,
    hurry: Callable[[], bool],
    directory: Path,
    records: Records,
    without_links: WithoutLinks | None = None,
) -> AsyncIterator[RunningProgram]:
    """Run the program inside the context. On exit, also on cancellation, its group is ended: SIGTERM, ``grace``
    seconds, SIGKILL; or SIGKILL at once if ``hurry()``. ``without_links``: calls the function that starts it, see
    isolation.no_links. Raises StartFailed."""
    program, name = RunningProgram(on_line), Path(argv[0]).name
    launch = launch_plan.Launch(argv=tuple(argv), env=dict(environ), directory=str(directory), ready=None)
    try:
        try:
            with records.launching(name, environ, next(_numbers)):
                records.add(name, program.spawn(launch, without_links).group)
        except OSError as error:
            raise StartFailed(f"{name} cannot be started and recorded: {error}") from error
        yield program
    finally:
        ended_by = await tasks.to_the_end(tasks.start(program.end(grace, hurry), f"end of {name}"))
        if program.leader is not None and ended_by is not termination.EndedBy.SURVIVED:
            records.remove(program.leader.group)
