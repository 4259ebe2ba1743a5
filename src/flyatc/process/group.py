"""A process group and the other processes of its session: list, signal, end."""

import asyncio
import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flyatc.process import proc
from flyatc.process.termination import Needed

POLL = 0.05  # s; between two checks of the group and of ``hurry``
FIRST_POLL = 0.002
KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel


@dataclass(frozen=True)
class Group:
    """A process group, identified by its leader, which also leads its session. The leader itself may be dead.

    While any member lives, the kernel does not reuse the leader's pid. So a process of that pid with another start
    time proves that the group is gone, and the pid must not be signalled."""

    leader: int
    started: int  # of the leader, clock ticks since boot

    def gone(self) -> bool:
        """Return whether no member is left. Cheap while the leader runs. Scans twice: a process that forks and ends
        during a scan may be missed together with its child."""
        first = proc.find(self.leader)
        if first is not None and first.started == self.started and not first.ended:
            return False
        return not self.members() and not self.members()

    def members(self) -> list[proc.Process]:
        """Return the members that still run. Zombies are not counted: they hold no file."""
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
        """Send the signal to all members."""
        members = self.members()
        if any(process.group == self.leader for process in members):
            _send(os.killpg, self.leader, number)  # one call: a member that forks at this moment cannot escape
        for process in members:
            if process.group != self.leader:
                _send(os.kill, process.pid, number)


def _send(kill: Callable[[int, int], None], target: int, number: int) -> None:
    # Gone meanwhile; or another user's, then the final check finds it.
    with suppress(ProcessLookupError, PermissionError):
        kill(target, number)


async def end(group: Group, grace: float, hurry: Callable[[], bool]) -> Needed:
    """Send SIGTERM to all, wait up to ``grace`` seconds, then send SIGKILL (at once if ``hurry``, also in the grace).
    Returns when no process is left, or when one has survived SIGKILL for KILL_PATIENCE."""
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
        group.signal(signals.SIGKILL)  # repeatedly: outside of the process group a fork may have escaped
        if clock() > deadline:
            return Needed.MORE
        await asyncio.sleep(pause)
        if group.gone():
            return Needed.KILL
        pause = min(2 * pause, POLL)
