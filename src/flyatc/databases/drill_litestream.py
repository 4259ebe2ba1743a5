"""The drill for litestream's replicas: the newest line of a database, restored by litestream itself."""

from functools import partial
from pathlib import Path

from flyatc.config.schema import Tenant
from flyatc.databases.drill import Damaged, Found
from flyatc.databases.inventory import Stocked
from flyatc.databases.litestream import lines, restoring
from flyatc.databases.litestream.address import prefix
from flyatc.databases.litestream.lines import Line
from flyatc.databases.litestream.means import Means
from flyatc.kit.errors import FlyatcError
from flyatc.kit.progress import silent

EXPANDED = 4  # a restored database needs about so many times the room of its replica, which is compressed


class Replicas:
    kind = "stream"

    def __init__(self, means: Means) -> None:
        self._means = means

    def has(self, stocked: Stocked) -> bool:
        return stocked.lines

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        own = prefix(tenant, database)
        line = lines.read(await self._means.store.list(own), own).last
        if line is None:
            return None
        version = f"{line.name}:{line.txid}"
        return Found(version, line.octets * EXPANDED, partial(self._bring, tenant, database, line))

    async def _bring(self, tenant: Tenant, database: str, line: Line, place: Path) -> Path:
        means = self._means
        url = means.addresses.of_line(tenant, database, line.number, line.renewal)
        try:
            return await restoring.restore(url, place, None, line.octets, means, silent)
        except restoring.NotRestored as error:
            if error.cause.passes:
                raise FlyatcError(error.advice) from error
            raise Damaged(str(error)) from error
