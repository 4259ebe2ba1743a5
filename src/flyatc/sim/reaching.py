"""From a wish to a connection: candidates are tried, sleepers woken, until one takes it or the time is up.

https://fly.io/docs/networking/dynamic-request-routing/ (timeout, fallback) and
https://fly.io/docs/monitoring/error-codes/ (PR03, PR04, PM07 to PM11).
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from flyatc.sim.choosing import RUNNING, STARTABLE, candidates
from flyatc.sim.machine import Machine, Wrong
from flyatc.sim.machines import Machines
from flyatc.sim.replay import Replay
from flyatc.wire import client

RETRY_SECONDS = 0.1  # up to 90 retries, in about 8 s
HOST = "127.0.0.1"


class Unreached(Struct, frozen=True):
    """``reason``: as in ``fly-replay-failed``; ``code``: as in Fly's log."""

    reason: str
    code: str
    words: str


class Reached(Struct, frozen=True):
    machine: Machine
    connection: client.AppConnection


class Reaching:
    def __init__(self, machines: Machines, edge: str, *, give_up: float) -> None:
        """``give_up``: seconds of trying where the replay says nothing of a timeout."""
        self._machines, self._edge, self._give_up = machines, edge, give_up

    async def reach(self, want: Replay, origin: str | None, note: Callable[[str], None]) -> Reached | Unreached:
        """``want.app`` is filled in; ``note`` is told what is done."""
        patience = want.patience
        last = Unreached("no_candidate", "PR04", "could not find a good candidate within 90 attempts at load balancing")
        try:
            async with asyncio.timeout(self._give_up if patience is None else patience):
                while True:
                    found = candidates(self._machines.seen(), want, self._edge, origin)
                    if not found:
                        return self._nobody(want)
                    for seen in found:
                        one = self._machines.get(seen.id)
                        if one is not None and (connection := await self._try(one, note)) is not None:
                            return Reached(one, connection)
                    last = Unreached("retries_exhausted", "PR03", "could not find a good candidate within 90 attempts")
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            return last if patience is None else Unreached("timeout", "PR04", f"nobody within {want.timeout}")

    def _nobody(self, want: Replay) -> Unreached:
        if want.app not in self._machines.apps():
            return Unreached("no_candidate", "PA04", f"app {want.app} not found")
        if want.instance and self._machines.get(want.instance) is None:
            return Unreached("no_candidate", "PR02", f"machine {want.instance} not found")
        return Unreached("no_candidate", "PR01", "no candidates found")

    async def _try(self, one: Machine, note: Callable[[str], None]) -> client.AppConnection | None:
        """None: it does not take a connection now."""
        if one.state in STARTABLE and one.seen().state != RUNNING:  # else it is still believed to run: PM11
            note(f"wakes {one.record.name} ({one.state})")
            try:
                await one.start()
            except Wrong:  # somebody else was first: PM07, PM08
                return None
        if not one.reachable:
            return None
        try:
            return await client.Pool(HOST, one.record.port, replays=True).dial()
        except OSError:  # not yet listening
            return None
