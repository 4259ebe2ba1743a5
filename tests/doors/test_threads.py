"""Blocking work beside the loop: no thread is left behind, whichever wait was cancelled."""

import asyncio
import gc
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from flyatc.kit import tasks
from flyatc.kit import threads as kit
from flyatc.kit.async_cache import AsyncCache
from flyatc.kit.threads import Abandoned, Exhausted, Interrupted, Late, Threads, Tick
from flyatc.kit.timing import Moving, Within
from flyatc.kit.types import silent

SOON = Within(0.1)


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


# --- deadlines ---


async def test_work_that_hangs_in_a_system_call_is_given_up_and_its_thread_replaced(
    threads: Threads,
) -> None:
    go = threading.Event()
    with pytest.raises(Late) as caught:
        await threads.run(lambda: go.wait(20), SOON)
    assert (caught.value.begun, caught.value.hung) == (True, 1)
    assert await threads.run(lambda: "next") == "next"
    go.set()


async def test_work_that_runs_python_code_for_ever_is_ended(threads: Threads) -> None:
    """As botocore did within a cut 100 Continue. Left alone, it would take half of the processor from the loop."""
    ended = threading.Event()

    def spin() -> None:
        try:
            while True:
                try:
                    len("")
                except Exception:  # as a library does that tries again
                    continue
        except Interrupted:
            ended.set()
            raise

    with pytest.raises(Late):
        await threads.run(spin, SOON)
    assert await asyncio.to_thread(ended.wait, 20)


async def test_a_cancelled_caller_of_work_that_hangs_waits_for_the_deadline_only(threads: Threads) -> None:
    go, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go.wait(20)

    task = tasks.start(threads.run(hang, Within(0.3)), "work")
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not go.is_set()
    go.set()


async def test_work_that_did_not_get_its_turn_was_surely_not_begun(threads: Threads) -> None:
    go, done = threading.Event(), []
    first = tasks.start(threads.run(lambda: go.wait(20)), "first")
    await asyncio.sleep(0.01)
    with pytest.raises(Late) as caught:
        await threads.run(lambda: done.append(1), SOON)
    assert not caught.value.begun
    go.set()
    await first
    assert done == []


async def test_a_transfer_that_makes_progress_is_not_cut_and_one_that_stalls_is(threads: Threads) -> None:
    go, paused, deadline = threading.Event(), threading.Event(), Moving(1.0, 20.0, 1.0)

    def slow(tick: Tick) -> str:
        for done in range(15):
            tick(done, 100)
            paused.wait(0.1)
        return "whole"

    def stall(tick: Tick) -> None:
        tick(1, 100)
        go.wait(20)
        tick(2, 100)

    assert await threads.watch(slow, "work", silent, deadline) == "whole"
    began = time.monotonic()
    with pytest.raises(Late):
        await threads.watch(stall, "work", silent, deadline)
    assert time.monotonic() - began < 10
    go.set()


async def test_a_tick_ends_work_that_was_given_up(threads: Threads) -> None:
    go, ended = threading.Event(), []

    def work(tick: Tick) -> None:
        go.wait(20)
        try:
            tick(1, 2)
        except BaseException as error:
            ended.append(type(error))
            raise

    with pytest.raises(Late):
        await threads.watch(work, "work", silent, SOON)
    left = [thread for thread in threading.enumerate() if thread.name.startswith("test-")]
    go.set()
    for thread in left:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
    assert ended in ([Abandoned], [])  # []: interrupted before


async def test_the_number_of_hanging_threads_is_limited_and_work_goes_on_when_they_end(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "MOST_HUNG", 3)
    go = threading.Event()
    for number in (1, 2, 3):
        with pytest.raises(Late) as caught:
            await threads.run(lambda: go.wait(20), SOON)
        assert caught.value.hung == number
    with pytest.raises(Exhausted) as refused:
        await threads.run(lambda: None, SOON)
    assert refused.value.hung == 3
    go.set()
    while True:
        try:
            assert await threads.run(lambda: "again", Within(20)) == "again"
            break
        except Exhausted:
            await asyncio.sleep(0.01)


async def test_what_is_queued_behind_the_last_thread_that_hangs_is_refused(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "MOST_HUNG", 1)
    go = threading.Event()
    first = tasks.start(threads.run(lambda: go.wait(20), SOON), "first")
    second = tasks.start(threads.run(lambda: None), "second")
    with pytest.raises(Late):
        await first
    with pytest.raises(Exhausted):
        await second
    go.set()


async def test_closing_does_not_wait_for_what_was_given_up() -> None:
    threads, go = Threads(1, "test"), threading.Event()
    with pytest.raises(Late):
        await threads.run(lambda: go.wait(20), SOON)
    began = time.monotonic()
    threads.close()
    assert time.monotonic() - began < 5
    go.set()


def test_a_thread_that_hangs_does_not_keep_the_interpreter_from_exiting(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(
        "import asyncio, threading\n"
        "from flyatc.kit.timing import Within\n"
        "from flyatc.kit.threads import Late, Threads\n"
        "async def main():\n"
        "    try:\n"
        "        await Threads(1, 'test').run(threading.Event().wait, Within(0.1))\n"
        "    except Late:\n"
        "        print('late')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "hang.py"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "late\n", "")


async def test_of_many_calls_given_up_and_ended_at_the_same_time_each_has_one_outcome() -> None:
    """The race between a deadline and the end of the work."""
    threads, deadline = Threads(4, "test"), Within(0.02)

    async def one(number: int) -> str:
        try:
            await threads.run(lambda: threading.Event().wait(0.01 + number % 20 * 0.001), deadline)
        except Late:
            return "late"
        return "done"

    outcomes = [outcome for turn in range(50) for outcome in await asyncio.gather(*(one(n + turn) for n in range(4)))]
    assert set(outcomes) == {"late", "done"}
    assert await threads.run(lambda: "fine", Within(20)) == "fine"
    threads.close()


# --- no one waits any more ---


async def unheard(leave: Callable[[asyncio.Task[Any], threading.Event], Awaitable[None]]) -> list[dict[str, Any]]:
    """Return what the loop's exception handler is reported."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    go = threading.Event()

    def fail() -> None:
        go.wait(20)
        raise OSError("connection reset")

    threads = Threads(2, "test")
    recall: AsyncCache[str, None] = AsyncCache(lambda _: threads.run(fail), lambda _: 1.0, 9)
    asks: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: threads.run(fail),
        lambda: threads.watch(lambda tick: fail(), "work", silent),
        lambda: recall.get("a"),
        lambda: tasks.to_the_end(tasks.start(threads.run(fail), "inner")),
        lambda: tasks.every([threads.run(fail), threads.run(fail)], "some"),
    ]
    for ask in asks:
        task = tasks.start(ask(), "waiter")
        await asyncio.sleep(0.01)
        await leave(task, go)
        del task
        go.clear()
    threads.close()
    for _ in range(3):
        await asyncio.sleep(0.01)
        gc.collect()
    return reported


async def test_an_error_that_comes_when_its_waiter_has_left_is_no_unexpected_error() -> None:
    async def leave(task: asyncio.Task[Any], go: threading.Event) -> None:
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait([task])
        assert task.cancelled()

    assert await unheard(leave) == []


async def test_an_error_that_comes_when_its_waiter_was_cancelled_twice_is_none_either() -> None:
    async def leave(task: asyncio.Task[Any], go: threading.Event) -> None:
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.01)
        go.set()
        await asyncio.wait([task])

    assert await unheard(leave) == []


ARENAS = """
import ctypes, re, sys, threading
from flyatc.kit.threads import share_memory

if sys.argv[1] == "shared":
    share_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
found = []
thread = threading.Thread(target=lambda: found.append(libc.malloc(1000)))
thread.start()
thread.join()
heap = next(re.match("([0-9a-f]+)-([0-9a-f]+)", line) for line in open("/proc/self/maps") if "[heap]" in line)
print(int(heap[1], 16) <= found[0] < int(heap[2], 16))
"""


@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in platform.libc_ver(), reason="malloc of glibc")
@pytest.mark.parametrize(("way", "expected"), [("shared", "True"), ("as usual", "False")])
def test_threads_share_the_memory_that_they_free(way: str, expected: str) -> None:
    found = subprocess.run([sys.executable, "-c", ARENAS, way], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected
