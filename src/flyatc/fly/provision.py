"""Create machines for users without one (``users."*".provision``): copies of this machine, in its region.

``copy_machine`` copies any machine, to any region, with new volumes in place of its own.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from flyatc.config.schema import Config
from flyatc.config.schema_sections import Fly
from flyatc.fly import api_http, new_machine
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import GONE, ApiError, Conflict, Machine, NameTaken, TooSlow
from flyatc.fly.environment import Machine as Me
from flyatc.fly.machine_list import MachineList
from flyatc.fly.machines_by_user import oldest_first
from flyatc.kit import tasks
from flyatc.observe.log import Log

PATIENCE = 20.0  # seconds for which a client waits
SILENCE = 60.0  # seconds between equal log lines
STARTING = 120.0  # seconds for a machine to start; its image may have to be fetched first


@dataclass(frozen=True, slots=True)
class NotMade:
    """No machine was made. ``soon``: one is being made."""

    why: str
    soon: bool = False


class Provisioner:
    """Creates users' machines. ``key``: of the metadata that names a machine's user. To be closed before ``api``."""

    def __init__(self, api: MachinesApi, inventory: MachineList, me: Me, key: str, settings: Fly, log: Log) -> None:
        self._api, self._inventory, self._me, self._key, self._log = api, inventory, me, key, log
        self._most = settings.machines_most
        self._budget = new_machine.Budget(settings.machines_a_minute)
        self._going: dict[str, asyncio.Task[str | NotMade]] = {}
        self._under_way = 0  # machines not yet in any list
        self._logged_at: dict[str, float] = {}  # by setting: when its refusal was logged last

    async def machine_for(self, user: str) -> str | NotMade:
        """Create a machine for a user that surely has none; return its id once started. Concurrent calls for the user
        share it; a cancelled call does not stop it."""
        return await self._one(user, None)

    async def launched(self, user: str, machine: str) -> str | NotMade:
        """Start a machine that was created but never started, since Fly Proxy does not (PM07). As ``machine_for``."""
        return await self._one(user, machine)

    def close(self) -> None:
        """Cancel without waiting."""
        for task in self._going.values():
            task.cancel()

    async def _one(self, user: str, machine: str | None) -> str | NotMade:
        task = self._going.get(user)
        if task is None:
            task = self._going[user] = tasks.start(self._make(user, machine), f"machine for {user}")
            task.add_done_callback(lambda _: self._going.pop(user, None))
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        return task.result() if done else NotMade("a machine is being made for the user", soon=True)

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
            return NotMade(f"no machine could be made for the user: {error}")

    async def _refusal(self) -> str | None:
        count = await self._inventory.machines()
        if count is None:
            return "the number of machines is unknown now, so none is made for the user"
        if count + self._under_way >= self._most:
            return self._refused("fly.machines_most", f"there are {self._most} machines: none is made for the user")
        if not self._budget.take(_now()):
            return self._refused("fly.machines_a_minute", "others were made just now: none is made for the user yet")
        return None

    def _refused(self, setting: str, why: str) -> str:
        """Log a refusal, but not again within SILENCE: one client may try many names."""
        if _now() - self._logged_at.get(setting, -SILENCE) >= SILENCE:
            self._logged_at[setting] = _now()
            self._log.event("warning", "no machine is made for a user", reason=why, setting=setting)
        return f"{why} ({setting})"

    async def _new(self, user: str) -> str:
        """Copy this machine for ``user``; return the id of the machine to use. Raises ApiError."""
        began, name = _now(), new_machine.name_of(user)
        report = partial(self._log.event, "info", user=user)
        copy = await copy_machine(self._api, self._me.id, name, self._me.region, self._key, user, report)
        made = copy.machine
        first = await self._first(user, made) if copy.new else made
        self._inventory.add_created(first)
        if first.id != made.id:
            self._log.event("info", "another machine was made for user at once: ours goes", user=user, kept=first.id)
            await undo(self._api, copy, report)
        elif copy.new:
            self._log.event(
                "info", "machine made for user",
                user=user, machine=made.id, name=made.name, region=made.region, ms=round((_now() - began) * 1000),
            )  # fmt: skip
        return first.id

    async def _first(self, user: str, made: Machine) -> Machine:
        """Return the user's machine that was created first. Raises ApiError."""
        found = {one.id: one for one in await self._api.machines(metadata=(self._key, user))} | {made.id: made}
        return oldest_first(found.values())[0]

    async def _start(self, machine: str) -> None:
        """Start a machine. Raises ApiError."""
        try:
            await self._api.start(machine)
        except Conflict:  # it is starting already
            return


def _now() -> float:
    return asyncio.get_running_loop().time()


Report = Callable[[str], None]  # called for each volume made, or left over: they cost money


@dataclass(frozen=True, slots=True)
class Copy:
    """A copied machine. ``volumes``: made for it. ``new``: False if it existed already."""

    machine: Machine
    volumes: tuple[str, ...] = ()
    new: bool = True


async def copy_machine(
    api: MachinesApi, like: str, name: str, region: str, key: str, user: str, report: Report
) -> Copy:
    """Copy machine ``like`` (an id), with metadata that assign it to ``user``; the copy starts. An existing machine
    with this name and user is returned instead. Raises ApiError, after the new volumes are destroyed."""
    config = await api.config(like)
    volumes = await _volumes(api, new_machine.mounted(config), region, config.get("guest"), report)
    try:
        made = await api.create(new_machine.clone(config, key, user, volumes), region=region, name=name)
    except NameTaken as error:
        await _drop(api, volumes, report)
        there = await _named(api, name, key, user)
        if there is None:
            raise Conflict(f"{error}: set {key}={user} in its metadata, or destroy it") from error
        return Copy(there, new=False)
    except ApiError as error:  # if the response was lost, the machine may exist
        found = await _named(api, name, key, user) if error.done else None
        if found is None:
            await _drop(api, volumes, report)
            raise
        made = found
    return Copy(made, tuple(volumes))


async def undo(api: MachinesApi, copy: Copy, report: Report) -> None:
    """Destroy a copy and its volumes. Raises ApiError."""
    await api.destroy(copy.machine.id, force=True)
    await _drop(api, list(copy.volumes), report)


async def _named(api: MachinesApi, name: str, key: str, user: str) -> Machine | None:
    found = await api.machines(metadata=(key, user))
    return next((one for one in found if one.name == name and one.state not in GONE), None)


async def _volumes(api: MachinesApi, like: list[str], region: str, guest: object, report: Report) -> list[str]:
    """Create an empty volume for each in ``like``, with the same name and size. Their data come from the store."""
    if not like:
        return []
    known = {one.id: one for one in await api.volumes()}
    made: list[str] = []
    try:
        for volume in like:
            if volume not in known:
                raise ApiError(f"the volume {volume}, to be copied, is not listed")
            one = known[volume]
            new = await api.create_volume(one.name, region, one.size_gb, guest if isinstance(guest, dict) else None)
            made.append(new.id)
            report(f"volume {new.id} is made, of {one.size_gb} GB")
    except ApiError:
        await _drop(api, made, report)
        raise
    return made


async def _drop(api: MachinesApi, volumes: list[str], report: Report) -> None:
    """Destroy volumes of a machine that was not made. One that is mounted all the same cannot be destroyed."""
    for volume in volumes:
        try:
            await api.destroy_volume(volume)
        except ApiError as error:
            report(f"volume {volume} is left over and unused: {error}")


def why_unable(config: Config, environ: Mapping[str, str]) -> str | None:
    """Return why no machine can be made; None if possible, or not configured."""
    if config.pattern is None or not config.pattern.provision:
        return None
    if config.fly.metadata is None:
        return "fly.metadata is not set: name the key of metadata that names a machine's user, such as customer_id"
    try:
        api_http.base_url(environ)
        api_http.token(environ)
    except ApiError as error:
        return str(error)
    return None
