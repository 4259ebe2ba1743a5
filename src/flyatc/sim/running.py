"""``flyatc sim``: the simulator in the foreground, its machines running ``flyatc serve``."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from flyatc.kit import tasks
from flyatc.sim import place
from flyatc.sim.machine import Record
from flyatc.sim.reaching import HOST
from flyatc.sim.simulator import Settings, Simulator

PATIENCE = 20.0  # s; for the machines to listen


def run(
    settings: Settings,
    config: Path,
    machines: Mapping[str, Mapping[str, str]],
    told: Callable[[str], None],
    ready: Callable[[Simulator, list[str]], None],
) -> None:
    """Until SIGINT or SIGTERM. ``machines``: their names → their metadata; ``ready`` is called once they listen, with
    the names of those which do not. Raises FlyatcError."""
    lock = place.claim(settings.folder)
    try:
        asyncio.run(_live(settings, config.absolute(), machines, told, ready))
    finally:
        os.close(lock)


async def _live(
    settings: Settings,
    config: Path,
    machines: Mapping[str, Mapping[str, str]],
    told: Callable[[str], None],
    ready: Callable[[Simulator, list[str]], None],
) -> None:
    def command(record: Record, folder: Path) -> list[str]:
        return [sys.executable, "-m", "flyatc", "serve", "--config", str(config)]

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    simulator = Simulator(settings, command, told)
    try:
        await simulator.open(machines)
        place.tell(settings.folder, place.Running(HOST, simulator.api_port))
        greeting = tasks.start(_greet(simulator, ready), "greeting")
        await stop.wait()
        greeting.cancel()
    finally:
        await simulator.close()


async def _greet(simulator: Simulator, ready: Callable[[Simulator, list[str]], None]) -> None:
    ready(simulator, await simulator.ready(PATIENCE))
