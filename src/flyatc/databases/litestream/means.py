"""What the databases of all tenants share in litestream mode."""

from collections.abc import Mapping
from dataclasses import dataclass

from flyatc.config.schema import Storage
from flyatc.databases.litestream.address import Addresses
from flyatc.databases.litestream.engine import Engine
from flyatc.databases.litestream.ports import Run
from flyatc.databases.tools import Tools
from flyatc.objects.store import ObjectStore


@dataclass(frozen=True)
class Means:
    store: ObjectStore
    storage: Storage
    environ: Mapping[str, str]
    addresses: Addresses
    engine: Engine
    run: Run
    tools: Tools
