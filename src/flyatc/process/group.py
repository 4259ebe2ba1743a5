"""A child and all that came from it: its process group, and whatever else is in its session."""

import asyncio
import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from flyatc.process import proc

POLL = 0.05  # s; between two looks at the group, and at ``hurry``
FIRST_POLL = 0.002
KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel


@dataclass(frozen=True)
class Group:
    """Known by its leader, which also leads its session; the leader itself may be dead.

    While any member lives the kernel gives the leader's number to nobody else, so a process of that number which
    started at another time proves that the group is gone, and that its number means strangers now."""

    leader: int
    started: int  # of the leader, clock ticks since boot

    def gone(self) -> bool:
        """Cheap while the leader runs. Looks twice: who forks and ends during a scan may be missed with its child."""
        first = proc.find(self.leader)
        if first is not None and first.started == self.started and not first.ended:
            return False
        return not self.members() and not self.members()

    def members(self) -> list[proc.Process]:
        """Who of it still runs; zombies are not counted: they hold no file."""
        first = proc.find(self.leader)
        if first is not None and first.started != self.started:
            return []
        return [
            process
            for process in proc.scan()
            if self.leader in (process.group, process.session)
            and process.started >= self.started
            and not process.ended
            and process.pid != os.getpid()
        ]

    def signal(self, number: signals.Signals) -> None:
        """To all members."""
        members = self.members()
        if any(process.group == self.leader for process in members):
            _send(os.killpg, self.leader, number)  # one call: a member that forks at this moment cannot slip away
        for process in members:
            if process.group != self.leader:
                _send(os.kill, process.pid, number)


def _send(kill: Callable[[int, int], None], target: int, number: int) -> None:
    # Gone meanwhile; or another user's, which the last look will tell.
    with suppress(ProcessLookupError, PermissionError):
        kill(target, number)


class Needed(Enum):
    """What it took to end a group."""

    NOTHING = "nothing"
    TERM = "SIGTERM"
    KILL = "SIGKILL"
    MORE = "more than SIGKILL"  # somebody still lives


async def end(group: Group, grace: float, hurry: Callable[[], bool]) -> Needed:
    """SIGTERM to all, up to ``grace`` seconds, then SIGKILL (at once where ``hurry`` says so, also during the grace).
    Returns when nobody is left, or when somebody has survived SIGKILL for KILL_PATIENCE."""
    clock = asyncio.get_running_loop().time
    if group.gone():
        return Needed.NOTHING
    if not hurry():
        group.signal(signals.SIGTERM)
        deadline, pause = clock() + grace, FIRST_POLL
        while (now := clock()) < deadline and not hurry():
            await asyncio.sleep(min(pause, deadline - now))
            if group.gone():
                return Needed.TERM
            pause = min(2 * pause, POLL)
    deadline, pause = clock() + KILL_PATIENCE, FIRST_POLL
    while True:
        group.signal(signals.SIGKILL)  # again and again: outside of the process group a fork may have slipped away
        if clock() > deadline:
            return Needed.MORE
        await asyncio.sleep(pause)
        if group.gone():
            return Needed.KILL
        pause = min(2 * pause, POLL)
