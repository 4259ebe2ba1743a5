"""The drill, made ready for a configuration: beside a running daemon, within it, or without any."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from flyatc.config.schema import Config
from flyatc.databases import inventory
from flyatc.databases.drill import Drill, Source
from flyatc.databases.drill_litestream import Replicas
from flyatc.databases.drill_snapshots import Snapshots
from flyatc.databases.inventory import Inventory
from flyatc.databases.litestream.address import Addresses
from flyatc.databases.litestream.engine import Engine
from flyatc.databases.litestream.means import Means
from flyatc.databases.scratch import Scratch
from flyatc.databases.tools import Tools
from flyatc.kit.errors import FlyatcError
from flyatc.objects.opened import OwnedStore, store_of
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log
from flyatc.process import program
from flyatc.process.records import Records

PATIENCE = 6.0  # seconds for one look at a record


@contextlib.asynccontextmanager
async def opened(
    config: Config, environ: Mapping[str, str], *, hurried: float | None = None
) -> AsyncIterator[OwnedStore]:
    """The store, for a command. Raises FlyatcError where there is none, StoreUnavailable."""
    store = store_of(config.storage, environ, hurried=hurried)
    if store is None:
        raise FlyatcError("storage.mode is none: nothing is in a store")
    with contextlib.closing(store):
        await store.open()
        yield store


async def stock(store: ObjectStore, address: str | None) -> Inventory:
    """What the store has of a tenant, of a user, or (None) at all. Raises StoreUnavailable."""
    user, _, name = (address or "").partition("/")
    found = inventory.take(await store.list(inventory.folder(user or None)))
    return found.within(user or None, name.replace("/", "~") or None)


@contextlib.asynccontextmanager
async def ready(
    config: Config, environ: Mapping[str, str], store: ObjectStore, records: Records, log: Log
) -> AsyncIterator[Drill]:
    """It has threads of its own, so that no tenant waits for it. ``records``: of the children. Raises FlyatcError where
    there can be no scratch folder."""
    tools, own = Tools(config.storage.keep, log), Path(config.server.data) / ".flyatc"
    try:
        scratch = await tools.quick.run(partial(_scratch, own))
        try:
            yield Drill(_sources(config, environ, store, records, tools), scratch, tools)
        finally:
            await tools.quick.run(scratch.remove)
    finally:
        tools.close()


def _scratch(own: Path) -> Scratch:
    try:
        return Scratch(own)
    except OSError as error:
        raise FlyatcError(f"no scratch folder can be made below {own}: {error.strerror}. See server.data.") from error


def _sources(
    config: Config, environ: Mapping[str, str], store: ObjectStore, records: Records, tools: Tools
) -> list[Source]:
    """In litestream mode both count: what it has from before it was streamed is a snapshot."""
    storage, data = config.storage, Path(config.server.data)
    if storage.mode != "litestream":
        return [Snapshots(store, tools)]
    run = partial(program.hold, records=records)
    engine = Engine(data / ".flyatc", storage.litestream, environ, run, tools.log, tools.quick)
    means = Means(store, storage, environ, Addresses(storage, environ), engine, run, tools)
    return [Replicas(means), Snapshots(store, tools)]
