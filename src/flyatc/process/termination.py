"""End processes, those of a run or of a group: SIGTERM, a grace period, SIGKILL until none is left."""

import asyncio
import os
import signal as signals
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from flyatc.process import proc
from flyatc.process.members import Target, send

POLL = 0.05  # s; between two checks of ``hurry`` and ``gone``
FIRST_POLL = 0.002
KILL_PATIENCE = 10.0  # s; SIGKILL works at once, but for a process that hangs in the kernel


class EndedBy(Enum):
    """The signal that was needed to end the processes."""

    NOTHING = "nothing"
    TERM = "SIGTERM"
    KILL = "SIGKILL"
    SURVIVED = "more than SIGKILL"  # a process still lives


@dataclass(frozen=True)
class Group:
    """A process group and the other processes of its session, identified by the leader of both, which may be dead.

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
            _send_to_group(self.leader, number)
        send([process.pid for process in members if process.group != self.leader], number)


def _send_to_group(leader: int, number: signals.Signals) -> bool:
    """Signal a process group in one call, so that a member that forks at this moment cannot escape."""
    # Gone meanwhile; or another user's, then the final check finds it.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
        return True
    return False


async def end_group(group: Group, grace: float, hurry: Callable[[], bool]) -> EndedBy:
    """End all members of a group: see ``_end``."""
    sent = False

    def term() -> None:
        nonlocal sent
        if not sent:
            group.signal(signals.SIGTERM)
        sent = True

    async def kill() -> None:  # repeatedly: outside of the process group a fork may have escaped
        group.signal(signals.SIGKILL)

    return await _end(group.gone, term, kill, grace, hurry)


async def end_run(
    target: Target,
    *,
    leader: int,
    leader_alive: Callable[[], bool],
    gone: Callable[[], bool],
    grace: float,
    hurry: Callable[[], bool],
) -> EndedBy:
    """End all processes of a run: see ``_end``. When the ``leader`` has ended (``leader_alive()`` is false), processes
    started since get SIGTERM and the rest of the grace."""
    return await _end(
        gone, _Terminate(target, leader, leader_alive), lambda: asyncio.to_thread(target.kill), grace, hurry
    )


class _Terminate:
    """Sends SIGTERM once to each process: to all at the first call, and to those started since when the leader has
    ended."""

    def __init__(self, target: Target, leader: int, leader_alive: Callable[[], bool]) -> None:
        self._target, self._leader, self._leader_alive = target, leader, leader_alive
        self._sent_to: set[int] = set()
        self._leading: bool | None = None  # None: not called yet

    def __call__(self) -> None:
        if self._leading is None:
            self._leading = self._leader_alive()
            self._to_all()
        elif self._leading and not self._leader_alive():
            self._leading = False
            self._send(self._target.find())

    def _to_all(self) -> None:
        members = self._target.find()
        if self._leader in members and _send_to_group(self._leader, signals.SIGTERM):
            self._sent_to |= {pid for pid in members if _group(pid) == self._leader}
        self._send(members)

    def _send(self, members: list[int]) -> None:
        new = set(members) - self._sent_to
        send(new, signals.SIGTERM)
        self._sent_to |= new


async def _end(
    gone: Callable[[], bool],
    term: Callable[[], None],
    kill: Callable[[], Awaitable[None]],
    grace: float,
    hurry: Callable[[], bool],
) -> EndedBy:
    """Send SIGTERM, wait up to ``grace`` seconds, then send SIGKILL; at once if ``hurry()``. ``term`` and ``hurry`` are
    called again during the grace. Returns when ``gone()``, or when a process has survived SIGKILL for KILL_PATIENCE."""
    clock = asyncio.get_running_loop().time
    if gone():
        return EndedBy.NOTHING
    deadline, pause = clock() + grace, FIRST_POLL
    while not hurry():
        term()
        if (now := clock()) >= deadline:
            break
        await asyncio.sleep(min(pause, deadline - now))
        if gone():
            return EndedBy.TERM
        pause = min(2 * pause, POLL)
    deadline, pause = clock() + KILL_PATIENCE, FIRST_POLL
    while True:
        await kill()
        await asyncio.sleep(pause)
        if gone():
            return EndedBy.KILL
        if clock() > deadline:
            return EndedBy.SURVIVED
        pause = min(2 * pause, POLL)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
