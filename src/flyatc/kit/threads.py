"""Blocking work in a few threads of its own, which never goes on behind the back of one who was cancelled."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flyatc.kit import tasks
from flyatc.kit.progress import Progress

T = TypeVar("T")
Tick = Callable[[int, int], None]  # (done, total) in bytes; called by the work, in its thread


class Abandoned(Exception):
    """Raised by a tick inside the work: whoever waited for it was cancelled."""


class Threads:
    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``, which nothing interrupts: a cancelled caller waits for its end."""
        future = self._pool.submit(work)
        return await tasks.to_the_end(asyncio.wrap_future(future), future.cancel)

    async def watch(self, work: Callable[[Tick], T], step: str, progress: Progress) -> T:
        """As ``run``; the work's ticks go to ``progress`` on the loop, and end it when the caller is cancelled."""
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def tick(done: int, total: int) -> None:
            if stop.is_set():
                raise Abandoned
            loop.call_soon_threadsafe(progress, step, done, total)

        def cancelled() -> None:
            stop.set()
            future.cancel()
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else will ask

        future = self._pool.submit(work, tick)
        waiting = asyncio.wrap_future(future)
        return await tasks.to_the_end(waiting, cancelled)

    def close(self, *, wait: bool = True) -> None:
        """Waits for what is running; what is queued is dropped."""
        self._pool.shutdown(wait=wait, cancel_futures=True)
