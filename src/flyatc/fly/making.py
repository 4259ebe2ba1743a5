"""Machines for users who have none (``users."*".provision``): copies of this one, in its region."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flyatc.config.schema import Fly
from flyatc.fly import clones
from flyatc.fly.api_errors import ApiError, Conflict, NameTaken, TooSlow
from flyatc.fly.api_shapes import GONE, Machine
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
        began, config = _now(), await self._api.config(self._me.id)
        volumes = await self._volumes(user, config)
        try:
            made = await self._created(user, clones.clone(config, self._key, user, volumes))
        except NameTaken as error:
            await self._drop(volumes)
            return await self._there_already(user, error)
        except ApiError:
            await self._drop(volumes)
            raise
        first = await self._first(user, made)
        if first != made.id:
            self._log.event("info", "another machine was made for the user at once: ours goes", user=user, kept=first)
            await self._api.destroy(made.id, force=True)
            await self._drop(volumes)
            return first
        self._inventory.made(made)
        self._log.event(
            "info", "machine made for user",
            user=user, machine=made.id, name=made.name, region=made.region, ms=round((_now() - began) * 1000),
        )  # fmt: skip
        return made.id

    async def _created(self, user: str, config: Mapping[str, Any]) -> Machine:
        """Raises ApiError. Of an answer that was lost the machine is looked for: it has its name."""
        name = clones.name_of(user)
        try:
            return await self._api.create(config, region=self._me.region, name=name)
        except ApiError as error:
            if not error.done:
                raise
            for one in await self._api.machines(metadata=(self._key, user)):
                if one.name == name and one.state not in GONE:
                    return one
            raise

    async def _there_already(self, user: str, error: NameTaken) -> str:
        """Another made it just now. Raises ApiError where who has his name is not for him."""
        his = await self._api.machines(metadata=(self._key, user))
        for one in oldest_first(his):
            if one.name == clones.name_of(user):
                self._inventory.made(one)
                return one.id
        raise Conflict(f"{error}: set {self._key}={user} in its metadata, or destroy it") from error

    async def _first(self, user: str, made: Machine) -> str:
        """Which of his machines was made first. Raises ApiError."""
        found = {one.id: one for one in await self._api.machines(metadata=(self._key, user))} | {made.id: made}
        return oldest_first(found.values())[0].id

    async def _volumes(self, user: str, config: Mapping[str, Any]) -> list[str]:
        """One for each of ours: of its name and its size. Raises ApiError, and then there are none."""
        ours = clones.mounted(config)
        if not ours:
            return []
        known = {one.id: one for one in await self._api.volumes()}
        made: list[str] = []
        try:
            for volume in ours:
                like = known.get(volume)
                if like is None:
                    raise ApiError(f"the volume {volume}, which this machine mounts, is not listed")
                new = await self._api.create_volume(like.name, self._me.region, like.size_gb, config.get("guest"))
                made.append(new.id)
                self._log.event("info", "volume made for user", user=user, volume=new.id, size_gb=like.size_gb)
        except ApiError:
            await self._drop(made)
            raise
        return made

    async def _drop(self, volumes: list[str]) -> None:
        """They were made for a machine that was not. One which is mounted all the same cannot be destroyed."""
        for volume in volumes:
            try:
                await self._api.destroy_volume(volume)
            except ApiError as error:
                self._log.event("warning", "a volume is left which nobody uses", volume=volume, reason=str(error))

    async def _start(self, machine: str) -> None:
        """Raises ApiError."""
        try:
            await self._api.start(machine)
        except Conflict:  # it is starting already
            return


def _now() -> float:
    return asyncio.get_running_loop().time()
