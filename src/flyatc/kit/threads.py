"""Run blocking work in a few dedicated threads.

A cancelled caller waits until its work has ended. Work is abandoned when its deadline passes: the caller gets
``Late``, a new thread replaces the old one, and the old one is interrupted if it runs Python code. A thread that hangs
in a system call cannot be interrupted. It is left running; being a daemon thread, it does not keep the interpreter from
exiting. The number of such threads is limited: beyond it, work is refused."""

import asyncio
import contextlib
import ctypes
import importlib
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

from flyatc.kit import tasks
from flyatc.kit.timing import CallProgress, Deadline
from flyatc.kit.types import Progress

T = TypeVar("T")
Tick = Callable[[int, int], None]  # (done, total) in bytes; called by the work in its thread

MOST_HUNG = 16  # abandoned threads that have not ended
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3  # mallopt(3); glibc only
LARGE = 131072  # bytes; memory of that size returns to the system as soon as it is freed
RECHECK = 1.0  # s, while the deadline is not known yet


def share_memory() -> None:
    """Have all threads allocate from one arena of malloc: what one has freed, the others use again. Keep large blocks
    out of it: malloc would raise its own limit for them, and they would leave gaps between the small ones.

    To be called before there are threads. Where the C library is not glibc, do nothing."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)


class Abandoned(Exception):
    """Raised by a tick inside the work: its caller was cancelled or its deadline has passed."""


class Interrupted(SystemExit):
    """Raised inside abandoned work. Not an Exception, so that no library handles it as a failed attempt. A SystemExit
    ends a thread without a traceback wherever it is raised."""


class Late(Exception):
    """The deadline has passed. ``begun``: the work may have had an effect. ``hung``: the number of hanging threads."""

    def __init__(self, after: float, *, begun: bool, hung: int) -> None:
        super().__init__(f"given up after {after:.0f} s")
        self.after, self.begun, self.hung = after, begun, hung


class Exhausted(Late):
    """Refused immediately: too many threads hang."""

    def __init__(self, hung: int) -> None:
        super().__init__(0.0, begun=False, hung=hung)


class _Job(Generic[T]):
    """One piece of work. ``outcome`` is a lock taken once: by the thread when the work has ended, or by the loop when
    it abandons the work. Only in the second case is the thread interrupted, and it then takes none of our locks: an
    asynchronous exception between taking a lock and entering the ``with`` block would leave it locked."""

    def __init__(self, work: Callable[[], T], deadline: Deadline | None) -> None:
        self.work, self.deadline = work, deadline
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self.loop.create_future()
        self.course = CallProgress(asked=monotonic())
        self.thread: threading.Thread | None = None
        self.outcome = threading.Lock()
        self.timer: asyncio.TimerHandle | None = None

    def perform(self) -> bool:
        """Do the work, in a thread. Return False if it was abandoned meanwhile."""
        try:
            value, error = self.work(), None
        except Interrupted:
            return False
        except BaseException as raised:
            value, error = None, raised
        if not self.outcome.acquire(blocking=False):
            return False
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is no caller
            self.loop.call_soon_threadsafe(self.settle, value, error)
        return True

    def settle(self, value: Any, error: BaseException | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.result.done():
            return
        if error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)

    def drop(self) -> None:
        """Cancel a job that will never begin."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.result.cancel)


class Threads:
    """A pool of at most ``count`` threads, started as needed. All methods except ``close`` are called on a loop."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._changed = threading.Condition()
        self._queue: deque[_Job[Any]] = deque()
        self._workers: set[threading.Thread] = set()
        self._hung: list[threading.Thread] = []
        self._idle = self._started = 0
        self._closed = False

    async def run(self, work: Callable[[], T], deadline: Deadline | None = None) -> T:
        """Return the result of ``work``. A cancelled caller waits for its end or its deadline. Raises Late."""
        job = _Job(work, deadline)
        return await self._do(job, lambda: self._take_back(job))

    async def watch(
        self, work: Callable[[Tick], T], step: str, progress: Progress, deadline: Deadline | None = None
    ) -> T:
        """Like ``run``; the work's ticks call ``progress`` on the loop, and raise Abandoned once the caller is gone."""
        stop = threading.Event()

        def tick(done: int, total: int) -> None:
            if stop.is_set():
                raise Abandoned
            job.course.moved, job.course.total = monotonic(), total
            job.loop.call_soon_threadsafe(progress, step, done, total)

        def cancelled() -> None:
            stop.set()
            self._take_back(job)

        job = _Job(lambda: work(tick), deadline)
        try:
            return await self._do(job, cancelled)
        finally:
            stop.set()

    async def _do(self, job: _Job[T], cancelled: Callable[[], None]) -> T:
        self._put(job)
        self._check_deadline(job)
        return await tasks.to_the_end(job.result, cancelled)

    def _put(self, job: _Job[Any]) -> None:
        """Enqueue the job. Raises Exhausted."""
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads {self._name!r} are closed")
            if not self._workers and (hung := self._count_hung()) >= MOST_HUNG:
                raise Exhausted(hung)
            self._queue.append(job)
            self._staff()

    def _staff(self) -> None:
        """Wake or start a thread for the newest job in the queue, if the limits allow it."""
        if self._idle >= len(self._queue):
            self._changed.notify()
        elif len(self._workers) < self._count and self._count_hung() < MOST_HUNG:
            self._started += 1
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True)
            self._workers.add(thread)
            thread.start()

    def _count_hung(self) -> int:
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        return len(self._hung)

    def _take_back(self, job: _Job[Any]) -> None:
        """Remove a job whose caller was cancelled from the queue, if it has not begun."""
        with self._changed:
            if job not in self._queue:
                return
            self._queue.remove(job)
        job.result.cancel()

    # --- deadlines, on the loop ---

    def _check_deadline(self, job: _Job[Any]) -> None:
        if job.deadline is None or job.result.done():
            return
        now, due = monotonic(), job.deadline.due(job.course)
        if now >= due:
            return self._give_up(job, now - job.course.asked)
        job.timer = job.loop.call_later(RECHECK if due == math.inf else due - now, self._check_deadline, job)
        return None

    def _give_up(self, job: _Job[Any], after: float) -> None:
        with self._changed:
            thread = job.thread
            if thread is None:
                self._queue.remove(job)
            elif not job.outcome.acquire(blocking=False):
                return  # it has just ended: its result is about to be set
            else:
                self._replace(thread)
            hung, refused = self._count_hung(), self._refused()
        job.settle(None, Late(after, begun=thread is not None, hung=hung))
        for other in refused:
            other.settle(None, Exhausted(hung))

    def _replace(self, thread: threading.Thread) -> None:
        self._workers.remove(thread)
        self._hung.append(thread)
        _interrupt(thread)
        if self._queue:
            self._staff()
        self._changed.notify_all()

    def _refused(self) -> list[_Job[Any]]:
        """Remove and return the queued jobs that no thread will ever take."""
        if self._workers:
            return []
        refused = list(self._queue)
        self._queue.clear()
        return refused

    # --- in a thread ---

    def _serve(self) -> None:
        me = threading.current_thread()
        while (job := self._next(me)) is not None:
            if not job.perform():
                return  # another thread has replaced this one
        with self._changed:
            self._workers.discard(me)
            self._changed.notify_all()

    def _next(self, me: threading.Thread) -> _Job[Any] | None:
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            job = self._queue.popleft()
            job.thread, job.course.begun = me, monotonic()
            return job

    def close(self, *, wait: bool = True) -> None:
        """Drop queued jobs; wait for running ones, but not for abandoned ones."""
        with self._changed:
            self._closed = True
            for job in self._queue:
                job.drop()
            self._queue.clear()
            self._changed.notify_all()
            while wait and self._workers:
                self._changed.wait()


def _interrupt(thread: threading.Thread) -> None:
    """Raise Interrupted in the thread's Python code, such as an endless loop. No effect on a blocked system call."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupted))


async def imported(module: str) -> None:
    """Import a module that takes long, in a thread, so that an ``import`` statement after it does not block the
    loop."""
    if module not in sys.modules:
        await asyncio.to_thread(importlib.import_module, module)
