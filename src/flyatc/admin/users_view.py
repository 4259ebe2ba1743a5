"""List an app's users and machines, and open the app for commands which change them."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from flyatc.admin.store_access import Owner
from flyatc.admin.users_apply import PlanRunner, Records
from flyatc.admin.users_plan import Seen
from flyatc.admin.users_steps import Plan
from flyatc.config.schema import Config
from flyatc.fly import environment
from flyatc.fly.api import MachinesApi
from flyatc.fly.api_types import Machine
from flyatc.fly.machines_by_user import oldest_first
from flyatc.fly.new_machine import LEFT
from flyatc.kit.errors import FlyatcError


class UserRow(Struct, frozen=True, kw_only=True):
    """A user and one machine. ``machine``: by its metadata; empty if there is none. ``owned``: held, released, dirty,
    removed, unknown; empty if there is no record, or the records are unavailable. ``owner``: the machine of the lease
    record, present or last; ``sign``: seconds since its last heartbeat. ``tenants``: those in tenants.yaml."""

    user: str
    machine: str = ""
    name: str = ""
    region: str = ""
    state: str = ""
    owned: str = ""
    owner: str = ""
    to: str = ""
    sign: float | None = None
    tenants: list[str] = []
    note: str = ""


class MachineRow(Struct, frozen=True, kw_only=True):
    """A machine. ``holds``: users whose lease it holds; ``version``: of its flyatc, if known."""

    machine: str
    name: str
    region: str
    state: str
    user: str = ""
    version: str = ""
    holds: list[str] = []
    sign: float | None = None
    note: str = ""


def users(seen: Seen, config: Config) -> list[UserRow]:
    """Users with a machine, a lease record, or an entry in tenants.yaml."""
    marked = {user for one in seen.machines if (user := seen.user_of(one)) is not None}
    named = sorted(marked | set(seen.owners or ()) | set(config.users))
    return [row for user in named for row in _rows(seen, config, user)]


def _rows(seen: Seen, config: Config, user: str) -> list[UserRow]:
    """One row for each machine of the user."""
    owner, machines = seen.owner(user), seen.of(user)
    note = f"{len(machines)} machines have this user: flyatc users move makes it one" if len(machines) > 1 else ""
    if owner is not None and owner.state == "removed" and user in config.users:
        note = f"tenants.yaml lists it, and still no machine serves it: flyatc users add {user} adds it again"
    elif owner is not None and not note:
        note = owner.note
    return [_row(config, user, machine, owner, note) for machine in (machines or (None,))]


def _row(config: Config, user: str, machine: Machine | None, owner: Owner | None, note: str) -> UserRow:
    return UserRow(
        user=user,
        machine=machine.id if machine is not None else "",
        name=machine.name if machine is not None else "",
        region=machine.region if machine is not None else "",
        state=machine.state if machine is not None else "",
        owned=owner.state if owner is not None else "",
        owner=owner.machine if owner is not None else "",
        to=owner.to if owner is not None else "",
        sign=owner.sign if owner is not None else None,
        tenants=[one.address for one in config.tenants.values() if one.user == user],
        note=note,
    )


def machines(seen: Seen) -> list[MachineRow]:
    return [_machine_row(seen, one) for one in seen.machines]


def _machine_row(seen: Seen, machine: Machine) -> MachineRow:
    on_record = [one for one in (seen.owners or {}).values() if one.machine == machine.id]
    left = machine.metadata.get(LEFT)
    return MachineRow(
        machine=machine.id,
        name=machine.name,
        region=machine.region,
        state=machine.state,
        user=seen.user_of(machine) or "",
        version=_version(on_record),
        holds=sorted(one.user for one in on_record if one.state == "held"),
        sign=min((one.sign for one in on_record if one.sign is not None), default=None),
        note=f"{left} was moved away from it" if left is not None else "",
    )


def _version(on_record: Sequence[Owner]) -> str:
    return next((one.version for one in on_record if one.version), "")


KEYLESS = (
    "fly.metadata is not set: it is the key of machine metadata which names a machine's user. Write "
    "fly: {metadata: customer_id} into tenants.yaml, and deploy it. Without Fly, users are the section users of "
    "tenants.yaml: edit it and run flyatc reload, or use the dashboard"
)


class UserDirectory:
    """Users and machines of one app."""

    def __init__(self, api: MachinesApi, records: Records, key: str) -> None:
        self._api, self._records, self._key = api, records, key

    async def look(self) -> Seen:
        """Raises ApiError. If owners are unavailable, ``Seen.why`` says why."""
        machines = oldest_first(await self._api.machines())
        try:
            found, why = await self._records.look(machines), ""
        except FlyatcError as error:
            found, why = None, str(error)
        return Seen(self._api.app, self._key, machines, found, why)

    async def carry_out(self, plan: Plan, report: Callable[[str], None]) -> None:
        """Execute the plan. Raises FlyatcError."""
        await PlanRunner(self._api, self._records, self._key, report).carry_out(plan)


@contextlib.asynccontextmanager
async def opened(config: Config, environ: Mapping[str, str], given: str | None) -> AsyncIterator[UserDirectory]:
    """``given``: the app's name, or None for the default. Raises FlyatcError if a setting is missing."""
    key = config.fly.metadata
    if key is None:
        raise FlyatcError(KEYLESS)
    api = MachinesApi(environment.app_name(given, environ, Path.cwd()), environ)
    try:
        yield UserDirectory(api, Records(api, config, environ, key), key)
    finally:
        await api.close()
