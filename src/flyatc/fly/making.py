"""Machines for users who have none (``users."*".provision``): copies of this one, in its region."""

import asyncio
from dataclasses import dataclass
from functools import partial

from flyatc.config.platform import Fly
from flyatc.fly import clones, copying
from flyatc.fly.api_errors import ApiError, Conflict, TooSlow
from flyatc.fly.api_shapes import Machine
from flyatc.fly.inventory import Inventory
from flyatc.fly.listing import oldest_first
from flyatc.fly.machine import Machine as Me
from flyatc.fly.machines_api import MachinesApi
from flyatc.kit import tasks
from flyatc.observe.log import Log

PATIENCE = 20.0  # seconds for which a visitor waits
SILENCE = 60.0  # seconds between lines which say the same
STARTING = 120.0  # seconds for a machine to start; its image may have to be fetched first


@dataclass(frozen=True, slots=True)
class NotMade:
    """``soon``: it is on its way."""

    why: str
    soon: bool = False


class Making:
    """``key``: of the metadata which names a machine's user. To be closed before ``api``."""

    def __init__(self, api: MachinesApi, inventory: Inventory, me: Me, key: str, settings: Fly, log: Log) -> None:
        self._api, self._inventory, self._me, self._key, self._log = api, inventory, me, key, log
        self._most = settings.machines_most
        self._budget = clones.Budget(settings.machines_a_minute)
        self._going: dict[str, asyncio.Task[str | NotMade]] = {}
        self._under_way = 0  # machines which no list has yet
        self._told_at: dict[str, float] = {}  # of a refusal, when the log was told last

    async def machine_for(self, user: str) -> str | NotMade:
        """The id of a started one, made now for a user who surely has none. Whoever comes meanwhile waits for the same;
        who leaves stops nothing."""
        return await self._one(user, None)

    async def launched(self, user: str, machine: str) -> str | NotMade:
        """The same for one which was made and never started: Fly Proxy starts no such machine (PM07)."""
        return await self._one(user, machine)

    def close(self) -> None:
        """Nobody is waited for."""
        for task in self._going.values():
            task.cancel()

    async def _one(self, user: str, machine: str | None) -> str | NotMade:
        task = self._going.get(user)
        if task is None:
            task = self._going[user] = tasks.start(self._make(user, machine), f"machine for {user}")
            task.add_done_callback(lambda _: self._going.pop(user, None))
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        return task.result() if done else NotMade("a machine is being made for him", soon=True)

    async def _make(self, user: str, machine: str | None) -> str | NotMade:
        try:
            if machine is None:
                refusal = await self._refusal()
                if refusal is not None:
                    return NotMade(refusal)
                self._under_way += 1
                try:
                    machine = await self._new(user)
                finally:
                    self._under_way -= 1
            else:
                await self._start(machine)
            await self._api.wait(machine, "started", STARTING)
            return machine
        except TooSlow as error:
            self._log.event("warning", "the machine made for a user does not start", user=user, reason=str(error))
            return NotMade(str(error), soon=True)
        except ApiError as error:
            self._log.event("error", "no machine could be made for user", user=user, reason=str(error))
            return NotMade(f"no machine could be made for him: {error}")

    async def _refusal(self) -> str | None:
        count = await self._inventory.machines()
        if count is None:
            return "how many machines there are is not known now, so none is made for him"
        if count + self._under_way >= self._most:
            return self._refused("fly.machines_most", f"there are {self._most} machines: none is made for him")
        if not self._budget.take(_now()):
            return self._refused("fly.machines_a_minute", "others were made a moment ago: none is made for him now")
        return None

    def _refused(self, setting: str, why: str) -> str:
        """Told to the log once in a while: who tries names is one, his names are many."""
        if _now() - self._told_at.get(setting, -SILENCE) >= SILENCE:
            self._told_at[setting] = _now()
            self._log.event("warning", "no machine is made for a user", reason=why, setting=setting)
        return f"{why} ({setting})"

    async def _new(self, user: str) -> str:
        """Raises ApiError."""
        began, name = _now(), clones.name_of(user)
        tell = partial(self._log.event, "info", user=user)
        copy = await copying.copy(self._api, self._me.id, name, self._me.region, self._key, user, tell)
        made = copy.machine
        first = await self._first(user, made) if copy.new else made
        self._inventory.made(first)
        if first.id != made.id:
            self._log.event("info", "another machine was made for user at once: ours goes", user=user, kept=first.id)
            await copying.undo(self._api, copy, tell)
        elif copy.new:
            self._log.event(
                "info", "machine made for user",
                user=user, machine=made.id, name=made.name, region=made.region, ms=round((_now() - began) * 1000),
            )  # fmt: skip
        return first.id

    async def _first(self, user: str, made: Machine) -> Machine:
        """Which of his machines was made first. Raises ApiError."""
        found = {one.id: one for one in await self._api.machines(metadata=(self._key, user))} | {made.id: made}
        return oldest_first(found.values())[0]

    async def _start(self, machine: str) -> None:
        """Raises ApiError."""
        try:
            await self._api.start(machine)
        except Conflict:  # it is starting already
            return


def _now() -> float:
    return asyncio.get_running_loop().time()
