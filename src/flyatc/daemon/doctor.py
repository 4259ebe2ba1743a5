"""Whether what flyatc stands on will hold: store, disk, platform. Tries things; changes nothing for good."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from flyatc.config.schema import Config
from flyatc.daemon import doctor_fly, doctor_machine, doctor_store
from flyatc.daemon.findings import Finding


async def examine(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """One finding after the other, each bounded in time."""
    async for finding in doctor_store.examine(config.storage, environ):
        yield finding
    checks: list[Callable[[], list[Finding]]] = [
        partial(doctor_machine.litestream, config.storage, environ),
        partial(doctor_machine.disk, config, environ),
        partial(doctor_machine.kill_timeout, config),
        partial(doctor_machine.open_files, config),
        partial(doctor_machine.sleep, config, environ),
    ]
    for check in checks:
        for finding in await asyncio.to_thread(check):
            yield finding
    for finding in await doctor_fly.examine(config, environ):
        yield finding
