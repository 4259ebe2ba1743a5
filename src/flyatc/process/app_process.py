"""An app process and its descendants, as its root reports them (see ``run_root``)."""

import asyncio
import os
from collections.abc import Callable

from flyatc.kit import tasks
from flyatc.process import members, termination
from flyatc.process.members import Target
from flyatc.process.spawn import Pipe
from flyatc.process.termination import Needed

LINES = 512  # bytes read at once


class NotStarted(Exception):
    """The app could not be started. ``number``: the errno; None: the supervisor ended before the start."""

    def __init__(self, number: int | None) -> None:
        super().__init__(number)
        self.number = number


class AppProcess:
    """A started app; await ``begun`` first. ``exited``: the app itself has ended. ``gone``: no process is left."""

    def __init__(self, mark: str, cgroup: str, report: Pipe, name: str) -> None:
        self.mark, self.cgroup, self.made = mark, cgroup, cgroup  # ``made``: set even if the app is not in it
        self.pid, self.started = 0, 0
        self.target: Target | None = None
        self.returncode: int | None = None
        self.exited, self.gone = asyncio.Event(), asyncio.Event()
        self.unproven = False  # its root was killed without a cgroup: descendants may have escaped
        self._report, self._begun = report, asyncio.Event()
        self._errno: int | None = None
        self._reader = tasks.start(self._read(), f"report of {name}")

    async def begun(self) -> None:
        """Wait until the program runs. Raises NotStarted."""
        await self._begun.wait()
        if self.target is None:
            raise NotStarted(self._errno)

    def members(self) -> list[int]:
        """Return the pids of all processes of this run. Costs some 50 µs each."""
        return self.target.find() if self.target is not None and not self.gone.is_set() else []

    async def end(self, grace: float, hurry: Callable[[], bool]) -> Needed:
        """End all processes of the run: see ``termination.end_run``."""
        if self.target is None:
            return Needed.NOTHING
        needed = await termination.end_run(
            self.target,
            leader=self.pid,
            led=lambda: not self.exited.is_set(),
            gone=self._is_gone,
            grace=grace,
            hurry=hurry,
        )
        if needed is not Needed.MORE:
            self._reader.cancel()
            self._report.close()
        return Needed.MORE if self.unproven else needed

    def survivors(self) -> str:
        """Describe the processes that are left, for an error message."""
        if found := self.members():
            return "; ".join(map(members.describe, found))
        return "unknown processes: their root process was killed" if self.unproven else "none"

    def _is_gone(self) -> bool:
        if not self.gone.is_set() and self._reader.done() and not self.members() and not self.members():
            self.unproven = not self.cgroup
            self.gone.set()
        return self.gone.is_set()

    async def _read(self) -> None:
        """Read the reports until the end of the root, which alone holds the other end."""
        rest = b""
        while data := await self._report.read(LINES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._handle(line.decode().split())
        if self.returncode is None:
            self.returncode = -9  # its exit status is unknown
        self._begun.set()
        self.exited.set()

    def _handle(self, words: list[str]) -> None:
        match words:
            case ["runs", root, root_started, pid, started, inside]:
                self.pid, self.started = int(pid), int(started)
                self.cgroup = self.cgroup if inside == "1" else ""
                self.target = Target(int(root), int(root_started), self.mark, self.cgroup)
                self._begun.set()
            case ["failed", number]:
                self._errno = int(number)
            case ["exit", status]:
                self.returncode = os.waitstatus_to_exitcode(int(status))
                self.exited.set()
            case ["empty"]:
                self.gone.set()
