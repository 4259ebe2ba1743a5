"""Where an operator changes users and machines: the app, its Machines API, and what is seen there."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from flyatc.config.schema import Config
from flyatc.daemon.users.hands import Hands
from flyatc.daemon.users.records import Records
from flyatc.daemon.users.seen import Seen
from flyatc.daemon.users.steps import Plan
from flyatc.fly import app
from flyatc.fly.listing import oldest_first
from flyatc.fly.machines_api import MachinesApi
from flyatc.kit.errors import FlyatcError

KEYLESS = (
    "fly.metadata is not set: it is the key of machine metadata which names a machine's user. Write "
    "fly: {metadata: customer_id} into tenants.yaml, and deploy it"
)


class Office:
    def __init__(self, api: MachinesApi, records: Records, key: str) -> None:
        self._api, self._records, self._key = api, records, key

    async def look(self) -> Seen:
        """Raises ApiError. That nobody tells who owns whom is told in what is seen."""
        machines = oldest_first(await self._api.machines())
        try:
            found, why = await self._records.look(machines), ""
        except FlyatcError as error:
            found, why = None, str(error)
        return Seen(self._api.app, self._key, machines, found, why)

    async def carry_out(self, plan: Plan, told: Callable[[str], None]) -> None:
        """Raises FlyatcError."""
        await Hands(self._api, self._records, self._key, told).carry_out(plan)


@contextlib.asynccontextmanager
async def opened(config: Config, environ: Mapping[str, str], given: str | None) -> AsyncIterator[Office]:
    """``given``: the app, where it was said. Raises FlyatcError where something is missing to begin with."""
    key = config.fly.metadata
    if key is None:
        raise FlyatcError(KEYLESS)
    api = MachinesApi(app.name(given, environ, Path.cwd()), environ)
    with contextlib.closing(api):
        yield Office(api, Records(api, config, environ, key), key)
