"""``flyatc sim``: run the simulator in the foreground, its machines running ``flyatc serve``.

Its discovery file, and the calls of ``flyatc sim ps`` and other commands to a running simulator.
"""

import asyncio
import fcntl
import http.client
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError
from flyatc.sim.machine import Record
from flyatc.sim.proxy_leg import HOST
from flyatc.sim.simulator import Settings, Simulator
from flyatc.sim.types import Failure, Faults, Overview

PATIENCE = 20.0  # s, for the machines to listen


def run(
    settings: Settings,
    config: Path,
    machines: Mapping[str, Mapping[str, str]],
    log: Callable[[str], None],
    ready: Callable[[Simulator, list[str]], None],
) -> None:
    """Run until SIGINT or SIGTERM. ``machines``: name → metadata; ``ready`` is called when they listen or PATIENCE is
    over, with the names of those that do not. Raises FlyatcError."""
    lock = claim(settings.folder)
    try:
        asyncio.run(_live(settings, config.absolute(), machines, log, ready))
    finally:
        os.close(lock)


async def _live(
    settings: Settings,
    config: Path,
    machines: Mapping[str, Mapping[str, str]],
    log: Callable[[str], None],
    ready: Callable[[Simulator, list[str]], None],
) -> None:
    def command(record: Record, folder: Path) -> list[str]:
        return [sys.executable, "-m", "flyatc", "serve", "--config", str(config)]

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    simulator = Simulator(settings, command, log)
    try:
        await simulator.open(machines)
        write_discovery(settings.folder, Running(HOST, simulator.api_port))
        greeting = tasks.start(_greet(simulator, ready), "greeting")
        await stop.wait()
        greeting.cancel()
    finally:
        await simulator.close()


async def _greet(simulator: Simulator, ready: Callable[[Simulator, list[str]], None]) -> None:
    ready(simulator, await simulator.ready(PATIENCE))


FILE = "running.json"
LOCK = "lock"
STOP_PATIENCE = 120.0  # s; a stop waits until the machine has stopped


class Running(Struct, frozen=True):
    host: str
    port: int  # of the API


def claim(folder: Path) -> int:
    """Lock the folder, for one simulator; return the lock's descriptor. Raises FlyatcError."""
    durable_files.make_folder(folder)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise FlyatcError(f"another flyatc sim runs with {folder}: stop it first, or name another --data") from error
    return descriptor


def write_discovery(folder: Path, running: Running) -> None:
    (folder / FILE).write_bytes(msgspec.json.encode(running))


def get_overview(folder: Path) -> Overview:
    """Return the simulator's overview. Raises FlyatcError."""
    return _ask(folder, "GET", "/sim/status", b"")


def command(folder: Path, machine: str, verb: str) -> Overview:
    """Run a command for a machine: start, stop, suspend or kill. Raises FlyatcError."""
    return _ask(folder, "POST", f"/sim/machines/{machine}/{verb}", b"")


def break_things(folder: Path, faults: Faults) -> Overview:
    """Set the faults to simulate. Raises FlyatcError."""
    return _ask(folder, "POST", "/sim/faults", msgspec.json.encode(faults))


def _ask(folder: Path, method: str, path: str, body: bytes) -> Overview:
    try:
        where = msgspec.json.decode((folder / FILE).read_bytes(), type=Running)
        connection = http.client.HTTPConnection(where.host, where.port, timeout=STOP_PATIENCE)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise FlyatcError(f"no simulator runs with {folder}: start it with flyatc sim, or name its --data") from error
    if response.status != 200:
        raise FlyatcError(msgspec.json.decode(data, type=Failure).error)
    return msgspec.json.decode(data, type=Overview)
