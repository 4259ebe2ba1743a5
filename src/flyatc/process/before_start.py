"""The commands of ``app.before_start``, such as migrations: run one after the other before the app is started."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from msgspec import structs

from flyatc.config.schema import Tenant
from flyatc.kit.errors import StartFailed
from flyatc.kit.types import Effort
from flyatc.process.child import RunningChild

Running = Callable[[Tenant, Callable[[], bool]], AbstractAsyncContextManager[RunningChild]]
Watched = Callable[[Callable[[], Awaitable[Effort]]], AbstractContextManager[None]]


async def run(tenant: Tenant, hurry: Callable[[], bool], watched: Watched, running: Running) -> None:
    """Run each command to its end, in the app's directory and with its environment, within
    ``app.before_start_timeout`` in total. Every process that came from a command is ended before the next one.
    ``hurry``, ``running``: see child.hold. ``watched`` is entered with a measure of the effort while a command runs.

    Raises StartFailed if one fails or takes too long; StillRunning if a process cannot be ended."""
    app = tenant.app
    deadline = asyncio.get_running_loop().time() + app.before_start_timeout
    for command in (one for one in app.before_start if isinstance(one, list)):
        said = f"before_start of {tenant.address}, {' '.join(command)!r},"
        one = structs.replace(tenant, app=structs.replace(app, command=command, verify_port=False))
        async with running(one, hurry) as child:
            try:
                async with asyncio.timeout_at(deadline):
                    with watched(child.effort):
                        await child.exited.wait()
            except TimeoutError:
                raise StartFailed(
                    f"{said} took longer than before_start_timeout ({app.before_start_timeout:g} s): it is ended, and "
                    "the app is not started"
                ) from None
            end = child.exit
        if end is None or end.code != 0:
            lines = "".join(f"\n  {line}" for line in end.output) if end is not None else ""
            raise StartFailed(
                f"{said} failed ({end}): the app is not started{f'; its last lines:{lines}' * bool(lines)}"
            )
