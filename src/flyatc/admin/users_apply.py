"""Execute the steps of a plan in order. Each step is idempotent: an interrupted command is repeated.

Also reads the lease records for an operator on any machine: the app's machines know their store, a laptop may not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import msgspec

from flyatc.admin.store_access import Owner
from flyatc.admin.users_plan import UNSAVED
from flyatc.admin.users_steps import (
    Cordon,
    Destroy,
    Make,
    Mark,
    Plan,
    Release,
    Remove,
    Restore,
    Settle,
    Step,
    Stop,
    Unmark,
    Wake,
)
from flyatc.config import check_sections
from flyatc.config.schema import Config
from flyatc.fly import provision
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import GONE, ApiError, Conflict, Machine
from flyatc.fly.new_machine import LEFT
from flyatc.kit.errors import FlyatcError

SECONDS = 30.0  # timeout of an exec which reads records
TRIED = 3  # machines asked; some may be of another process group


@dataclass(frozen=True)
class Records:
    """Source of lease records. On a machine of the app it is the store. Elsewhere it is a running machine, or, if none
    runs, the bucket; never a local folder, since the machines have another one."""

    api: MachinesApi
    config: Config
    environ: Mapping[str, str]
    key: str

    async def look(self, machines: Sequence[Machine], user: str | None = None) -> dict[str, Owner]:
        """Lease records by user. ``user`` None: of all users in the store. Raises FlyatcError."""
        if self.environ.get("FLY_MACHINE_ID") and self.environ.get("FLY_APP_NAME") == self.api.app:
            return await self._of_store(user)
        running = [one for one in machines if one.state == "started"]
        running.sort(key=lambda one: self.key not in one.metadata)
        why = "no machine runs which could list the owners"
        for one in running[:TRIED]:
            try:
                return await self.of_machine(one.id, user)
            except FlyatcError as error:
                why = f"machine {one.id} does not list the owners: {error}"
        if self.config.storage.url.startswith(check_sections.SCHEME):
            return await self._of_store(user)
        raise FlyatcError(why)

    async def of_machine(self, machine: str, user: str | None) -> dict[str, Owner]:
        """Lease records, read by a running machine in its store. Raises FlyatcError."""
        asked = ["flyatc", "ownership", *([] if user is None else [user]), "--json"]
        ran = await self.api.exec(machine, asked, SECONDS)
        if ran.exit_code:
            raise ApiError(ran.stderr.strip()[-500:] or f"flyatc ended with {ran.exit_code} there")
        try:
            return {one.user: one for one in msgspec.json.decode(ran.stdout, type=list[Owner])}
        except msgspec.MsgspecError as error:
            raise ApiError(f"its flyatc prints another format: {error}. Deploy this version there") from error

    async def _of_store(self, user: str | None) -> dict[str, Owner]:
        from flyatc.admin import store_access

        async with store_access.opened(self.config, self.environ, hurried=store_access.PATIENCE) as store:
            users = [user] if user is not None else (await store_access.take_inventory(store, None)).users
            return {one.user: one for one in await store_access.read_owners(self.config, self.environ, store, users)}


STARTING = 120.0  # seconds; an image may have to be pulled
STOPPING = 120.0
RELEASING = 180.0  # seconds; requests finish, apps stop, databases are saved
EXEC = 55.0  # seconds; the API may cut longer calls. The command goes on
AGAIN = 2.0  # seconds between two tries to release a user


class PlanRunner:
    """``report``: called with each step before it begins, and with the results of some."""

    def __init__(self, api: MachinesApi, records: Records, key: str, report: Callable[[str], None]) -> None:
        self._api, self._records, self._key, self._report = api, records, key, report
        self._made: dict[str, str] = {}  # names → ids
        self._cordoned: list[str] = []

    async def carry_out(self, plan: Plan) -> None:
        """Execute all steps. Raises FlyatcError at the first that fails."""
        try:
            for number, step in enumerate(plan.steps, 1):
                self._report(f"{number}/{len(plan.steps)} {step}")
                await self._do(step, plan)
        except BaseException:
            await self._uncordon()
            raise

    async def _do(self, step: Step, plan: Plan) -> None:
        match step:
            case Make():
                await self._make(step, plan)
            case Wake(machine):
                await self._wake(self._id(machine))
            case Mark(machine, key, user):
                await self._mark(self._id(machine), key, user)
            case Unmark(machine, key, user):
                await self._unmark(self._id(machine), key, user)
            case Release() | Remove() | Restore():
                await self._change_owner(step)
            case Cordon(machine):
                self._cordoned.append(machine)
                await self._api.cordon(machine)
            case Settle(seconds):
                await asyncio.sleep(seconds)
            case Stop(machine):
                await self._stop(machine)
            case Destroy():
                await self._destroy(step)

    def _id(self, machine: str) -> str:
        return self._made.get(machine, machine)

    # --- machines ---

    async def _make(self, step: Make, plan: Plan) -> None:
        copy = await provision.copy_machine(
            self._api, step.like, step.name, step.region, self._key, plan.user, self._report
        )
        made = copy.machine
        self._made[step.name] = made.id
        self._report(f"    it is machine {made.id}")
        await self._api.wait(made.id, "started", STARTING)

    async def _wake(self, machine: str) -> None:
        await _unless_under_way(self._api.start(machine))
        await self._api.wait(machine, "started", STARTING)

    async def _stop(self, machine: str) -> None:
        found = await self._api.get(machine)
        await _unless_under_way(self._api.stop(machine))
        await self._api.wait(machine, "stopped", STOPPING, found.instance_id)
        self._cordoned = [one for one in self._cordoned if one != machine]

    async def _destroy(self, step: Destroy) -> None:
        """Destroy without force: if the machine was woken meanwhile, it may have unsaved data again."""
        machines = [one for one in await self._api.machines() if one.state not in GONE]
        owner = await self._owner(machines, step.user)
        if owner is not None and owner.machine == step.machine and owner.state in UNSAVED:
            raise FlyatcError(
                f"machine {step.machine} holds {step.user} again, and is not destroyed: run the command again"
            )
        await self._api.destroy(step.machine)

    async def _uncordon(self) -> None:
        for machine in self._cordoned:
            try:
                await self._api.uncordon(machine)
            except ApiError as error:
                self._report(f"machine {machine} gets no requests until fly machine uncordon {machine}: {error}")

    # --- metadata ---

    async def _mark(self, machine: str, key: str, user: str) -> None:
        await self._api.set_metadata(machine, key, user)
        await self._api.delete_metadata(machine, LEFT)

    async def _unmark(self, machine: str, key: str, user: str) -> None:
        await self._api.set_metadata(machine, LEFT, user)
        await self._api.delete_metadata(machine, key)

    # --- ownership ---

    async def _change_owner(self, step: Release | Remove | Restore) -> None:
        match step:
            case Release():
                await self._release(step)
            case Remove(machine, user):
                await self._record(machine, user, "--remove", removed=True)
            case Restore(machine, user):
                await self._record(machine, user, "--undo-remove", removed=False)

    async def _release(self, step: Release) -> None:
        """Run ``flyatc release`` on the machine; it continues if this command is stopped. On an exit code other than 0
        the record decides whether the user is released."""
        at, to = self._id(step.machine), self._id(step.to) if step.to is not None else None
        command = ["flyatc", "release", step.user, *(["--to", to] if to is not None else [])]
        until, before = monotonic() + RELEASING, ""
        while (trouble := await self._exec(at, command)) and not await self._is_released(at, step.user, to):
            if monotonic() > until:
                raise FlyatcError(
                    f"{step.user} is not released: {trouble}. Nothing is lost: run the command again. If that machine "
                    f"never comes back: flyatc takeover {step.user}, on another one"
                )
            if trouble != before:
                self._report(f"    {trouble}; trying again")
            before = trouble
            await asyncio.sleep(AGAIN)

    async def _record(self, machine: str, user: str, option: str, *, removed: bool) -> None:
        """Record that the user is removed, or no longer removed."""
        at, until, before = self._id(machine), monotonic() + RELEASING, ""
        while (trouble := await self._exec(at, ["flyatc", "release", user, option])) and not await self._is(
            at, user, removed=removed
        ):
            if monotonic() > until:
                raise FlyatcError(
                    f"whether {user} is removed is not on record as it should be: {trouble}. Nothing is lost: run the "
                    "command again"
                )
            if trouble != before:
                self._report(f"    {trouble}; trying again")
            before = trouble
            await asyncio.sleep(AGAIN)

    async def _is(self, at: str, user: str, *, removed: bool) -> bool:
        try:
            owner = (await self._records.of_machine(at, user)).get(user)
        except ApiError:  # it may be starting
            return False
        return (owner is not None and owner.state == "removed") is removed

    async def _exec(self, machine: str, command: Sequence[str]) -> str:
        """Run a command on the machine. Returns the error, or an empty string."""
        try:
            ran = await self._api.exec(machine, list(command), EXEC)
        except ApiError as error:  # also a time-out: the command goes on
            return str(error)
        return f"machine {machine} says: {(ran.stderr or ran.stdout).strip()[-500:]}" if ran.exit_code else ""

    async def _is_released(self, at: str, user: str, to: str | None) -> bool:
        try:
            owner = (await self._records.of_machine(at, user)).get(user)
        except ApiError:  # it may be starting
            return False
        if owner is None:
            self._report(f"    {user} has never had an owner: there is nothing to hand over")
            return True
        if to is None:
            return owner.state == "released" or owner.machine != at
        return owner.to == to or owner.machine == to

    async def _owner(self, machines: Sequence[Machine], user: str) -> Owner | None:
        try:
            return (await self._records.look(machines, user)).get(user)
        except FlyatcError:  # no machine runs any more; the user was released before
            return None


async def _unless_under_way(change: Awaitable[None]) -> None:
    try:
        await change
    except Conflict:  # under way or done: the wait that follows decides
        return
