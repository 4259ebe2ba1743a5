"""Prices of Fly and of Tigris, in US dollars: the one table. Pure.

Machine sizes: https://fly.io/docs/machines/guides-examples/machine-sizing/."""

from typing import Any

import msgspec
from msgspec import Struct

from flyatc.kit.errors import FlyatcError

GB = 1 << 30
MONTH = 30 * 86400.0  # s; as in Fly's own table

FLY, TIGRIS = "https://fly.io/docs/about/pricing/", "https://www.tigrisdata.com/pricing/"

REGIONS = {
    "iad": 1.0, "ewr": 1.0, "ams": 1.038461538, "arn": 1.038461538, "yyz": 1.115384615, "cdg": 1.134615385,
    "lhr": 1.134615385, "fra": 1.153846154, "sjc": 1.192307692, "lax": 1.199519231, "dfw": 1.25, "ord": 1.25,
    "sin": 1.269230769, "syd": 1.269230769, "jnb": 1.302884615, "nrt": 1.307692308, "gru": 1.615384615,
}  # fmt: skip
EGRESS_REGIONS = {"sin": 0.04, "nrt": 0.04, "syd": 0.04, "gru": 0.04, "jnb": 0.12, "bom": 0.12}


class Prices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``regions``: factor on the price of a running machine; ``egress_regions``: regions whose traffic does not cost
    ``egress_gb``. Of Tigris: the standard tier, one copy."""

    date: str = "October 2026"
    sources: tuple[str, ...] = (FLY, TIGRIS)
    # of a running machine, per second, in Ashburn; a CPU includes some memory
    shared_cpu: float = 0.0000008465
    performance_cpu: float = 0.000012732
    shared_cpu_includes_gb: float = 0.25
    performance_cpu_includes_gb: float = 2.0
    memory_gb: float = 0.000002316
    regions: dict[str, float] = msgspec.field(default_factory=lambda: dict(REGIONS))
    # per GB and month
    stopped_rootfs_gb: float = 0.15
    volume_gb: float = 0.15
    store_gb: float = 0.02
    # per GB
    egress_gb: float = 0.02
    egress_regions: dict[str, float] = msgspec.field(default_factory=lambda: dict(EGRESS_REGIONS))
    # per thousand requests to the store
    store_writes: float = 0.005  # class A: PUT, COPY, POST, LIST
    store_reads: float = 0.0005  # class B: GET, HEAD

    def machine(self, kind: str, cpus: int, memory_gb: float, region: str) -> float:
        """Price of a running machine for a second. ``kind``: shared or performance."""
        cpu, includes = self.shared_cpu, self.shared_cpu_includes_gb
        if kind == "performance":
            cpu, includes = self.performance_cpu, self.performance_cpu_includes_gb
        more = max(0.0, memory_gb - cpus * includes)
        return (cpus * cpu + more * self.memory_gb) * self.regions.get(region, 1.0)

    def egress(self, region: str) -> float:
        """Price of a GB that leaves a machine there."""
        return self.egress_regions.get(region, self.egress_gb)


def read(body: bytes, name: str) -> Prices:
    """Decode prices given as JSON; a key that is missing keeps its value of the table. Raises FlyatcError."""
    try:
        given: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        found = msgspec.convert({"date": "no date given", "sources": [name, FLY, TIGRIS]} | given, Prices)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        keys = ", ".join(Prices.__struct_fields__)
        raise FlyatcError(f"{name} is no table of prices: {error}. Its keys: {keys}") from error
    numbers = [value for value in msgspec.structs.asdict(found).values() if isinstance(value, float)]
    if any(not 0 <= value < 1e6 for value in [*numbers, *found.regions.values(), *found.egress_regions.values()]):
        raise FlyatcError(f"{name} has a price below 0, or one that cannot be meant")
    return found
