"""End the processes of a run: SIGTERM, a grace period, SIGKILL until none is left."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from flyatc.process.members import Target, send

POLL = 0.05  # s; between two checks of ``hurry`` and ``gone``
FIRST_POLL = 0.002
KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel


class Needed(Enum):
    """The signal that was needed to end the processes."""

    NOTHING = "nothing"
    TERM = "SIGTERM"
    KILL = "SIGKILL"
    MORE = "more than SIGKILL"  # a process still lives


class Signals:
    """Sends SIGTERM once to each process."""

    def __init__(self, target: Target, leader: int) -> None:
        self._target, self._leader = target, leader
        self._sent_to: set[int] = set()

    def group(self) -> None:
        """Signal the leader's process group in one call, so that a member that forks at this moment cannot escape;
        then all others."""
        members = self._target.find()
        if self._leader in members:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._leader, signal.SIGTERM)
                self._sent_to |= {pid for pid in members if _group(pid) == self._leader}
        self._send(members)

    def rest(self) -> None:
        """Signal the processes that have not been signalled yet."""
        self._send(self._target.find())

    def _send(self, members: list[int]) -> None:
        new = set(members) - self._sent_to
        send(new, signal.SIGTERM)
        self._sent_to |= new


async def end(
    target: Target,
    *,
    leader: int,
    led: Callable[[], bool],
    gone: Callable[[], bool],
    grace: float,
    hurry: Callable[[], bool],
) -> Needed:
    """Send SIGTERM to all, wait up to ``grace`` seconds, then send SIGKILL. When the ``leader`` has ended (``led()`` is
    false), processes started since get SIGTERM and the rest of the grace. SIGKILL at once if ``hurry()``, which is also
    called during the grace. Returns when ``gone()``, or when a process has survived SIGKILL for KILL_PATIENCE."""
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
