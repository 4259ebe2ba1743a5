"""Rehearsals of commands (``flyatc exec --rehearse``): on copies, beside all that is real.

The copies are in server.data/rehearsals, each removed at the end of its command, and all at the start of the daemon.
Neither the store nor a lease nor an app is touched, so the tenants may run here or on another machine meanwhile."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.daemon.wiring import Parts
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError
from flyatc.kit.streams import Streams
from flyatc.kit.types import Exit
from flyatc.tenants.commands import Until

FOLDER = "rehearsals"


def sweep(data: Path) -> None:
    """Remove what a killed daemon has left. Blocking."""
    shutil.rmtree(data / FOLDER, ignore_errors=True)


async def rehearse(
    parts: Parts, tenant: Tenant, of_command: Callable[[Tenant], Tenant], streams: Streams, until: Until
) -> Exit | None:
    """Run a command on a copy of the tenant: with its environment and its isolation, but ``{data}`` is the copy.
    ``of_command``: returns the tenant with the command. Raises FlyatcError."""
    await parts.secrets.load(tenant)
    folder = await asyncio.to_thread(_make, parts.data)
    try:
        await parts.databases.copy(tenant, folder)
        spec = of_command(structs.replace(tenant, data=folder))
        async with parts.command(spec, lambda: parts.fleet.hurried, streams, leased=False) as running:
            await tasks.first_of(running.exited.wait(), until(running))
        return running.exit
    finally:
        remove = asyncio.to_thread(partial(shutil.rmtree, folder, ignore_errors=True))
        await tasks.to_the_end(tasks.start(remove, "end of a rehearsal"))


def _make(data: Path) -> Path:
    try:
        durable_files.make_folder(data / FOLDER)
        return Path(tempfile.mkdtemp(dir=data / FOLDER))
    except OSError as error:
        raise FlyatcError(f"no folder for the copy can be made below {data / FOLDER}: {error.strerror}") from error
