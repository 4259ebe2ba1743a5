"""An app and all that came from it, as its root reports them (see ``run_root``)."""

import asyncio
import os
from collections.abc import Callable

from flyatc.kit import tasks
from flyatc.process import members, termination
from flyatc.process.members import Target
from flyatc.process.spawn import Pipe
from flyatc.process.termination import Needed

LINES = 512  # octets read at once


class NotStarted(Exception):
    """``number``: the errno; None: the supervisor has ended before the app was started."""

    def __init__(self, number: int | None) -> None:
        super().__init__(number)
        self.number = number


class AppProcess:
    """``begun`` first. ``exited``: the app itself has ended. ``gone``: nobody is left of what it started."""

    def __init__(self, mark: str, cgroup: str, report: Pipe, name: str) -> None:
        self.mark, self.cgroup, self.made = mark, cgroup, cgroup  # ``made``: also where it could not be entered
        self.pid, self.started = 0, 0
        self.target: Target | None = None
        self.returncode: int | None = None
        self.exited, self.gone = asyncio.Event(), asyncio.Event()
        self.unproven = False  # its root was killed: what it was the parent of may have got away
        self._report, self._begun = report, asyncio.Event()
        self._errno: int | None = None
        self._reader = tasks.start(self._read(), f"report of {name}")

    async def begun(self) -> None:
        """Returns when the program runs. Raises NotStarted."""
        await self._begun.wait()
        if self.target is None:
            raise NotStarted(self._errno)

    def members(self) -> list[int]:
        """The pids of all processes of this run: whoever is none of them is a stranger. Costs some 50 µs each."""
        return self.target.find() if self.target is not None and not self.gone.is_set() else []

    async def end(self, grace: float, hurry: Callable[[], bool]) -> Needed:
        """See ``ending.end``."""
        if self.target is None:
            return Needed.NOTHING
        needed = await termination.end(
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
        """For an error message."""
        if found := self.members():
            return "; ".join(map(members.describe, found))
        return "unknown processes: the one that held them together was killed" if self.unproven else "none"

    def _is_gone(self) -> bool:
        if not self.gone.is_set() and self._reader.done() and not self.members() and not self.members():
            self.unproven = not self.cgroup
            self.gone.set()
        return self.gone.is_set()

    async def _read(self) -> None:
        """Ends with the root: nobody else holds the other end."""
        rest = b""
        while data := await self._report.read(LINES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line.decode().split())
        if self.returncode is None:
            self.returncode = -9  # nobody has seen how it ended
        self._begun.set()
        self.exited.set()

    def _take(self, words: list[str]) -> None:
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
