"""Litestream mode, made ready for a configuration."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from flyatc.config.schema import Config
from flyatc.databases.litestream.door import Door
from flyatc.databases.tools import Tools
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log
from flyatc.process import program
from flyatc.process.records import Records


def streams_of(
    config: Config, store: ObjectStore | None, environ: Mapping[str, str], records: Records, log: Log
) -> Callable[[Tools], Door] | None:
    """Makes the door once the vault has its tools; None in another mode."""
    if config.storage.mode != "litestream" or store is None:
        return None
    run, folder = partial(program.hold, records=records), Path(config.server.data) / ".flyatc"
    return lambda tools: Door(store, config.storage, environ, folder, run, log, tools)
