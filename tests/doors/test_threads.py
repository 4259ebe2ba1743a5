"""Blocking work beside the loop: nobody is left behind, whoever was cancelled."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from flyatc.kit import tasks
from flyatc.kit.progress import silent
from flyatc.kit.threads import Abandoned, Threads, Tick


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(1, "test")
    yield made
    made.close()


async def test_a_cancelled_caller_waits_for_the_end_of_the_work(threads: Threads) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(20)
        ended.set()

    task = tasks.start(threads.run(work), "work")
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_work_that_ticks_ends_early_when_its_caller_is_cancelled(threads: Threads) -> None:
    begun, reasons = threading.Event(), []

    def work(tick: Tick) -> None:
        try:
            while True:
                begun.set()
                tick(1, 2)
        except Abandoned as reason:
            reasons.append(reason)
            raise

    task = tasks.start(threads.watch(work, "work", silent), "work")
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(reasons) == 1


async def test_work_that_has_not_begun_is_dropped(threads: Threads) -> None:
    go, done = threading.Event(), []
    first = tasks.start(threads.run(lambda: go.wait(20)), "first")
    second = tasks.start(threads.run(lambda: done.append(1)), "second")
    await asyncio.sleep(0.01)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    assert done == []


async def test_of_several_the_first_error_ends_the_others_and_is_raised() -> None:
    story = []

    async def fail() -> None:
        raise ValueError("no")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            story.append("ended")

    with pytest.raises(ValueError, match="no"):
        await tasks.every([wait(), fail(), wait()], "some")
    assert story == ["ended", "ended"]


async def test_of_several_the_results_come_in_order() -> None:
    async def give(number: int) -> int:
        await asyncio.sleep(0.001 * (3 - number))
        return number

    assert await tasks.every((give(number) for number in range(3)), "some") == [0, 1, 2]
    assert await tasks.every([], "none") == []
