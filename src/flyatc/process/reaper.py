"""Orphans: what a child left behind becomes ours, and must be reaped when it ends."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Collection

from flyatc.process import proc

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
EVERY = 1.0  # s


def adopt_orphans() -> bool:
    """Makes this process the parent of all its orphaned descendants, as PID 1 is by nature. Whether that worked."""
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


class Reaper:
    """Reaps zombies that nobody waits for. ``known`` tells the pids that asyncio reaps itself.

    A child which asyncio has only just begun to wait for may not be known yet, so only a zombie that was seen in two
    successive sweeps is taken: asyncio reaps its own within milliseconds."""

    def __init__(self, known: Callable[[], Collection[int]]) -> None:
        self._known = known
        self._seen: frozenset[int] = frozenset()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(EVERY)
            self.sweep()

    def sweep(self) -> list[int]:
        """The pids that were reaped."""
        zombies = _zombies() - set(self._known())
        ripe, self._seen = zombies & self._seen, frozenset(zombies)
        return [pid for pid in sorted(ripe) if _reap(pid)]


def _zombies() -> set[int]:
    """Our own children that have ended. One system call where there are none, which is nearly always."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return set()
    except ChildProcessError:  # no children at all
        return set()
    me = os.getpid()
    return {process.pid for process in proc.scan() if process.parent == me and process.ended}


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody was quicker
        return False
