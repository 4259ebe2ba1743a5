"""Adopt orphaned descendants, and reap them when they end."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Collection

from flyatc.process import proc

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
EVERY = 1.0  # s


def adopt_orphans() -> bool:
    """Make this process the parent of all its orphaned descendants, as PID 1 always is. Returns whether it worked."""
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


class Reaper:
    """Reaps zombies that no other code waits for. ``known`` returns the pids that are reaped elsewhere.

    A child may not be known yet just after its start. So only a zombie seen in two successive sweeps is reaped: known
    children are reaped within milliseconds."""

    def __init__(self, known: Callable[[], Collection[int]]) -> None:
        self._known = known
        self._seen: frozenset[int] = frozenset()

    async def run(self) -> None:
        """Sweep every second; never returns."""
        while True:
            await asyncio.sleep(EVERY)
            self.sweep()

    def sweep(self) -> list[int]:
        """Reap once; return the pids that were reaped."""
        zombies = _zombies() - set(self._known())
        ripe, self._seen = zombies & self._seen, frozenset(zombies)
        return [pid for pid in sorted(ripe) if _reap(pid)]


def _zombies() -> set[int]:
    """Return this process's children that have ended. One system call if there are none, which is nearly always."""
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
    except ChildProcessError:  # reaped elsewhere meanwhile
        return False
