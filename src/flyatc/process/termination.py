"""How the processes of a run are ended: SIGTERM, a grace, SIGKILL until nobody is left."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from flyatc.process.members import Target, send

POLL = 0.05  # s; between two looks at ``hurry``, and at what has ended
FIRST_POLL = 0.002
KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel


class Needed(Enum):
    """What it took to end them."""

    NOTHING = "nothing"
    TERM = "SIGTERM"
    KILL = "SIGKILL"
    MORE = "more than SIGKILL"  # somebody still lives


class Signals:
    """SIGTERM, once to each."""

    def __init__(self, target: Target, leader: int) -> None:
        self._target, self._leader = target, leader
        self._told: set[int] = set()

    def group(self) -> None:
        """To the process group of the leader in one call: a member that forks at this moment cannot slip away. To all
        others besides."""
        members = self._target.find()
        if self._leader in members:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._leader, signal.SIGTERM)
                self._told |= {pid for pid in members if _group(pid) == self._leader}
        self._tell(members)

    def rest(self) -> None:
        """To those that have not been told."""
        self._tell(self._target.find())

    def _tell(self, members: list[int]) -> None:
        new = set(members) - self._told
        send(new, signal.SIGTERM)
        self._told |= new


async def end(
    target: Target,
    *,
    leader: int,
    led: Callable[[], bool],
    gone: Callable[[], bool],
    grace: float,
    hurry: Callable[[], bool],
) -> Needed:
    """Returns when ``gone()``, or when somebody has survived SIGKILL for KILL_PATIENCE. All get SIGTERM and ``grace``
    seconds; when the ``leader`` has ended (``led()`` is false) those that came later get it as well, and what is left
    of the time. SIGKILL at once where ``hurry()``, which is asked during the grace too."""
    clock = asyncio.get_running_loop().time
    if gone():
        return Needed.NOTHING
    if not hurry():
        signals, leading = Signals(target, leader), led()
        signals.group()
        deadline, pause = clock() + grace, FIRST_POLL
        while (now := clock()) < deadline and not hurry():
            await asyncio.sleep(min(pause, deadline - now))
            if gone():
                return Needed.TERM
            if leading and not led():
                leading = False
                signals.rest()
            pause = min(2 * pause, POLL)
    deadline, pause = clock() + KILL_PATIENCE, FIRST_POLL
    while True:
        await asyncio.to_thread(target.kill)
        await asyncio.sleep(pause)
        if gone():
            return Needed.KILL
        if clock() > deadline:
            return Needed.MORE
        pause = min(2 * pause, POLL)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
