"""Start the app of a run, and start it again at another port if another process has taken the first."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager as Hold

from flyatc.kit.errors import PortTaken, StillRunning
from flyatc.observe.log import EventLog
from flyatc.tenants.interfaces import Child
from flyatc.tenants.start_queue import Turn

PORTS = 3  # tried in one start: a port can be taken after it was chosen and before the app listens, but rarely is


async def start(
    address: str,
    run: Callable[[], Hold[Child]],
    turn: Turn,
    held: contextlib.AsyncExitStack,
    begun: Callable[[Child], None],
    log: EventLog,
) -> None:
    """Return when the app responds. ``run``: Tools.running; its context is left with ``held``. ``begun`` is called
    with each child, before it is ready. Raises StartFailed, StillRunning."""
    for others in reversed(range(PORTS)):
        one = contextlib.AsyncExitStack()
        held.push_async_exit(one)
        child = await one.enter_async_context(run())
        begun(child)
        try:
            with turn.watched(child.effort):
                return await child.ready()
        except PortTaken as error:
            if not others:
                raise
            log.event("warning", "the app is started again at another port", tenant=address, reason=str(error))
        try:
            await one.aclose()
        except StillRunning as error:
            raise_at_release(error, held)
            raise
    raise AssertionError("the last try returns or raises")


def raise_at_release(error: StillRunning, held: contextlib.AsyncExitStack) -> None:
    """Raise the error again when ``held`` is left, so that the databases count as in use."""
    held.callback(_raise, error)


def _raise(error: Exception) -> None:
    raise error
