"""Who owns whom, for an operator who may sit anywhere: the machines know their store, and a laptop may not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from flyatc.config import bucket
from flyatc.config.schema import Config
from flyatc.daemon.owners import Owner
from flyatc.fly.api_errors import ApiError
from flyatc.fly.api_shapes import Machine
from flyatc.fly.machines_api import MachinesApi
from flyatc.kit.errors import FlyatcError

SECONDS = 30.0  # for a machine to answer
TRIED = 3  # machines; some may be of another process group


@dataclass(frozen=True)
class Records:
    """Within a machine of the app the store is read. From elsewhere a machine which runs is asked; where none does,
    the bucket, if there is one: a folder here is not what the machines have."""

    api: MachinesApi
    config: Config
    environ: Mapping[str, str]
    key: str

    async def look(self, machines: Sequence[Machine], user: str | None = None) -> dict[str, Owner]:
        """By user; None: all that the store knows. Raises FlyatcError."""
        if self.environ.get("FLY_MACHINE_ID") and self.environ.get("FLY_APP_NAME") == self.api.app:
            return await self._of_store(user)
        running = [one for one in machines if one.state == "started"]
        running.sort(key=lambda one: self.key not in one.metadata)
        why = "no machine runs which could be asked who owns whom"
        for one in running[:TRIED]:
            try:
                return await self.of_machine(one.id, user)
            except FlyatcError as error:
                why = f"machine {one.id} does not tell who owns whom: {error}"
        if self.config.storage.url.startswith(bucket.SCHEME):
            return await self._of_store(user)
        raise FlyatcError(why)

    async def of_machine(self, machine: str, user: str | None) -> dict[str, Owner]:
        """As that machine, which runs, reads it in the store. Raises FlyatcError."""
        asked = ["flyatc", "ownership", *([] if user is None else [user]), "--json"]
        ran = await self.api.exec(machine, asked, SECONDS)
        if ran.exit_code:
            raise ApiError(ran.stderr.strip()[-500:] or f"flyatc ended with {ran.exit_code} there")
        try:
            return {one.user: one for one in msgspec.json.decode(ran.stdout, type=list[Owner])}
        except msgspec.MsgspecError as error:
            raise ApiError(f"its flyatc tells something else: {error}. Deploy this version there") from error

    async def _of_store(self, user: str | None) -> dict[str, Owner]:
        from flyatc.daemon import drills, owners  # who asks a machine does without them

        async with drills.opened(self.config, self.environ, hurried=drills.PATIENCE) as store:
            users = [user] if user is not None else (await drills.stock(store, None)).users
            return {one.user: one for one in await owners.look(self.config, self.environ, store, users)}
