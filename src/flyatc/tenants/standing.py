"""Where a tenant stands: its state, since when, and the one setter."""

import asyncio
from collections.abc import Callable

from flyatc.tenants import lifecycle
from flyatc.tenants.lifecycle import State
from flyatc.tenants.ports import Teller


class Standing:
    __slots__ = ("_entered", "_log", "_tenant", "_wall", "since", "state")

    def __init__(self, tenant: str, log: Teller, wall: Callable[[], float]) -> None:
        self.state = State.STOPPED
        self._tenant, self._log, self._wall = tenant, log, wall
        self._entered = asyncio.get_running_loop().time()
        self.since = wall()  # Unix time of the last change

    def to(self, new: State, why: str | None = None) -> None:
        """The only way to change the state; logged with the ms spent in the former. Raises lifecycle.Impossible."""
        old, self.state = self.state, lifecycle.follow(self.state, new)
        now = asyncio.get_running_loop().time()
        ms, self._entered = round((now - self._entered) * 1000, 1), now
        self.since = self._wall()
        reason = {} if why is None else {"why": why}
        self._log.event("info", f"tenant {new}", tenant=self._tenant, state=new.value, was=old.value, ms=ms, **reason)
