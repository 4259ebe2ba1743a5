"""A daemon as seen by the code that puts its machine to sleep, and a platform; both record what is asked of them."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from msgspec import structs

from fakes.stage import make_config
from flyatc.config.schema_sections import MachineIdle
from flyatc.daemon.machine_idle import IdleWatcher
from flyatc.fly.local_api import Verb
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.kit.machine_clocks import Clock
from flyatc.observe.log import Log


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeDaemon:
    """``sleep.Machine``, with the clocks of its machine. ``slow``: seconds for each step; ``faults``: by step."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.slow: dict[str, float] = {}
        self.faults: dict[str, FlyatcError] = {}
        self.visited, self.visitors = now(), 0
        self.lost = self.behind = 0.0  # seconds for which all clocks stood still; by which the wall clock is behind
        self.store_knows = False
        self.awake = asyncio.Event()
        self.awake.set()
        self.stopped = self.ran = self.waited = 0.0  # SIGSTOP; what the event loop's thread did with its time
        self.clock = Clock(
            boottime=lambda: now() + self.stopped - self.lost,
            wall=lambda: now() + self.stopped - self.behind,
            monotonic=lambda: now() + self.stopped - self.lost,
            scheduled=lambda: (self.ran, self.waited),
        )

    def quiet_for(self) -> float:
        return 0.0 if self.visitors else now() - self.visited

    async def settle(self) -> None:
        await self._step("settle")

    async def rest(self) -> None:
        await self._step("rest")
        self.awake.clear()

    async def slept(self) -> bool:
        return self.store_knows

    def wake(self) -> None:
        if not self.awake.is_set():
            self.story.append("wake")
        self.awake.set()

    async def forget(self) -> None:
        self.story.append("forget")

    async def _step(self, step: str) -> None:
        self.story.append(step)
        await asyncio.sleep(self.slow.get(step, 0))
        if step in self.faults:
            raise self.faults[step]

    async def visit(self) -> float:
        """How long it waited for someone who may be taken."""
        came, self.visitors = now(), self.visitors + 1
        await self.awake.wait()
        self.visitors -= 1
        self.visited = now()
        return now() - came

    def stall(self, seconds: float, *, ran: float = 0.0, waited: float = 0.0) -> None:
        """The event loop did not run for so long; its thread did, or waited for a core."""
        self.stopped, self.ran, self.waited = self.stopped + seconds, self.ran + ran, self.waited + waited

    def freeze(self, seconds: float, *, clock_is_set: bool = True) -> None:
        """It was suspended for so long, up to now. All the others have gone on."""
        self.lost += seconds
        self.behind = 0.0 if clock_is_set else self.behind + seconds


class FakePlatform:
    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.answer: Callable[[], FlyatcError | None] = lambda: None

    async def ask(self, verb: Verb) -> None:
        self.asked.append((now(), verb))
        await asyncio.sleep(0.05)
        if (error := self.answer()) is not None:
            raise error


class Night:
    """``after``: 900 s."""

    def __init__(self, then: Literal["exit", "stop", "suspend"]) -> None:
        self.daemon, self.platform, self.ended = FakeDaemon(), FakePlatform(), list[str]()
        self.log = Log(io.BytesIO(), level="debug")
        config = structs.replace(make_config(), path=Path("/tenants.yaml"), machine_idle=MachineIdle(then=then))
        self.idling = IdleWatcher(
            self.daemon, lambda: config, {}, self.ended.append, self.log,
            platform=self.platform, clock=self.daemon.clock,
        )  # fmt: skip

    def reported(self, message: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for _, _, line in self.log.journal.since(0)]
        return [line for line in lines if message in line["msg"]]


@asynccontextmanager
async def night(then: Literal["exit", "stop", "suspend"]) -> AsyncIterator[Night]:
    one = Night(then)
    running = [tasks.start(one.idling.run(), "idling"), tasks.start(one.idling.watch(), "clocks")]
    try:
        yield one
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        one.log.close()
