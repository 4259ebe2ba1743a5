"""The simulator in a thread of its own, for tests without a loop; and what may befall its machines."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from flyatc.sim import machine, types
from flyatc.sim.machine import Machine, Record
from flyatc.sim.simulator import Settings, Simulator
from slowness import SLOWNESS

T = TypeVar("T")
PATIENCE = 120.0  # s


class Platform:
    """``hops``: what the simulator has reported of visits. Its methods may be called from any thread."""

    def __init__(self, settings: Settings, command: Callable[[Record, Path], list[str]]) -> None:
        self.hops: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="small Fly")
        self._thread.start()
        self.simulator: Simulator = self._do(self._made(settings, command))

    async def _made(self, settings: Settings, command: Callable[[Record, Path], list[str]]) -> Simulator:
        return Simulator(settings, command, self.hops.append)

    def open(self, metadata: Mapping[str, Mapping[str, str]]) -> None:
        self._do(self.simulator.open(metadata))

    def late(self, seconds: float) -> list[str]:
        """Return who does not listen after so long."""
        return self._do(self.simulator.ready(seconds))

    def close(self) -> None:
        self._do(self.simulator.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE * SLOWNESS)

    def __getitem__(self, name: str) -> Machine:
        return self.simulator.machines.named(name)

    def id(self, name: str) -> str:
        return self[name].record.id

    def start(self, name: str) -> None:
        self._do(self[name].start())

    def stop(self, name: str) -> None:
        self._do(self[name].stop())

    def suspend(self, name: str) -> None:
        self._do(self[name].suspend())

    def kill(self, name: str) -> None:
        """Its host is lost."""
        self._do(self[name].kill())

    def destroy(self, name: str) -> None:
        self._do(self.simulator.machines.destroy(self[name]))

    def freeze(self, name: str) -> None:
        """Unlike ``suspend``, no one knows of it."""
        machine.send_signal(self.id(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        machine.send_signal(self.id(name), signal.SIGCONT)

    def fail(self, *, api: str = "", dns: str = "") -> None:
        """Nothing: all is well again."""
        self.simulator.break_things(types.Faults(api, dns))
