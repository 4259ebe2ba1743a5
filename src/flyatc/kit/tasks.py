"""Named asyncio tasks, kept referenced until they end, whose errors are never lost."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

_alive: set[asyncio.Task[Any]] = set()


def start(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a task. If it is not awaited, its error reaches the loop's exception handler."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    return task


async def first_of(*awaitables: Coroutine[Any, Any, Any]) -> None:
    """Wait until the first has ended, and raise its error; the others are cancelled and awaited."""
    tasks = [start(a, f"first of {len(awaitables)}") for a in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        done = [t for t in tasks if t.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def every(coroutines: Iterable[Coroutine[Any, Any, T]], name: str) -> list[T]:
    """Return all results, in order. On the first error the others are cancelled and awaited; then it is raised."""
    tasks = [start(c, name) for c in coroutines]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        failed = [t for t in tasks if t.done() and not t.cancelled() and t.exception() is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in failed:
        task.result()
    return [task.result() for task in tasks]


async def joined(work: asyncio.Future[T]) -> T:
    """Return the result of shared ``work``: a cancelled caller ends only its own wait.

    Like ``asyncio.shield``, but an error raised after every caller has left is dropped: it must not reach the loop's
    exception handler as never retrieved."""
    work.add_done_callback(_retrieve)
    await asyncio.wait([work])
    return work.result()


def _retrieve(work: asyncio.Future[Any]) -> None:
    if not work.cancelled():
        work.exception()


async def to_the_end(work: asyncio.Future[T], cancelled: Callable[[], object] = lambda: None) -> T:
    """Return the result of ``work``. On cancellation, wait until ``work`` has ended before raising CancelledError.

    ``cancelled`` is called immediately in that case: it may shorten the work."""
    try:
        return await joined(work)
    except asyncio.CancelledError:
        cancelled()
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise
