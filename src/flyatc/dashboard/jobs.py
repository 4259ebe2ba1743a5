"""Long work for the operator: it goes on when the page is left, and its page shows how far it is."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time

from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import Progress
from flyatc.observe.log import Log, stamp

KEPT = 50  # jobs
MOST_RUNNING = 20

Work = Callable[[Progress], Awaitable[str]]


@dataclass
class Job:
    """``id``: the machine and a random word; ``back``: the path to go on to. ``step``, ``done``, ``total``: progress in
    bytes, or in a ``unit`` such as databases; ``total`` 0: unknown. ``result``: a sentence, once it has ended."""

    id: str
    title: str
    back: str
    began: float  # Unix time
    ended: float | None = None
    step: str = ""
    done: int = 0
    total: int = 0
    result: str | None = None
    failed: bool = False
    unit: str = ""

    @property
    def state(self) -> str:
        return "running" if self.ended is None else "failed" if self.failed else "done"

    @property
    def seconds(self) -> float:
        return (time() if self.ended is None else self.ended) - self.began

    @property
    def since(self) -> str:
        return stamp(self.began)

    def progress(self, step: str, done: int, total: int) -> None:
        self.step, self.done, self.total = step, done, total


class Jobs:
    """The jobs of this machine, newest last; ``KEPT`` at most. ``machine``: begins their ids."""

    def __init__(self, machine: str, log: Log) -> None:
        self._machine, self._log = machine, log
        self._all: OrderedDict[str, Job] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}  # of those under way

    def start(self, title: str, back: str, work: Work, *, unit: str = "") -> Job:
        """Begin work. It gets ``progress(step, done, total)``, and returns a sentence on its result; a FlyatcError that
        it raises is the result. Raises FlyatcError if too much is under way."""
        if len(self.running) >= MOST_RUNNING:
            raise FlyatcError(f"{MOST_RUNNING} jobs are under way already: wait for one to end")
        job = Job(f"{self._machine}-{secrets.token_hex(6)}", title, back, time(), unit=unit)
        self._all[job.id] = job
        for old in [one.id for one in self._all.values() if one.ended is not None][: max(0, len(self._all) - KEPT)]:
            del self._all[old]
        task = self._tasks[job.id] = tasks.start(self._run(job, work), f"dashboard: {title}")
        task.add_done_callback(lambda _: self._tasks.pop(job.id))
        return job

    async def settle(self, job: Job, seconds: float) -> None:
        """Wait so long for the job to end."""
        if (task := self._tasks.get(job.id)) is not None:
            await asyncio.wait([task], timeout=seconds)

    async def _run(self, job: Job, work: Work) -> None:
        try:
            job.result = await work(job.progress)
        except FlyatcError as error:
            job.failed, job.result = True, str(error)
        except BaseException as error:
            job.failed, job.result = True, f"it ended unexpectedly: {type(error).__name__}; the log says more"
            raise
        finally:
            job.ended = time()
            level = "warning" if job.failed else "info"
            self._log.event(level, f"dashboard: job {job.state}", job=job.title, result=job.result)

    def get(self, name: str) -> Job | None:
        return self._all.get(name)

    @property
    def running(self) -> list[Job]:
        return [job for job in self._all.values() if job.ended is None]

    @property
    def all(self) -> list[Job]:
        """Newest first."""
        return list(reversed(self._all.values()))


def machine_of(name: str) -> str:
    """Return the machine that has the job of this id."""
    return name.rpartition("-")[0]
