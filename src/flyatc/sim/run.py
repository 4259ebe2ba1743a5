"""``flyatc sim``: the simulator in the foreground, its machines running ``flyatc serve``.

Where a running simulator is found, and how ``flyatc sim ps`` and its sisters ask it.
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
    lock = claim(settings.folder)
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
STOP_PATIENCE = 120.0  # s; a stop waits for the machine's end


class Running(Struct, frozen=True):
    host: str
    port: int  # of the API


def claim(folder: Path) -> int:
    """The descriptor of the lock; one simulator for each folder. Raises FlyatcError."""
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
    """Raises FlyatcError."""
    return _ask(folder, "GET", "/sim/status", b"")


def command(folder: Path, machine: str, verb: str) -> Overview:
    """Raises FlyatcError."""
    return _ask(folder, "POST", f"/sim/machines/{machine}/{verb}", b"")


def break_things(folder: Path, faults: Faults) -> Overview:
    """Raises FlyatcError."""
    return _ask(folder, "POST", "/sim/faults", msgspec.json.encode(faults))


def _ask(folder: Path, method: str, path: str, body: bytes) -> Overview:
    try:
        where = msgspec.json.decode((folder / FILE).read_bytes(), type=Running)
        connection = http.client.HTTPConnection(where.host, where.port, timeout=STOP_PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise FlyatcError(f"no simulator runs with {folder}: start it with flyatc sim, or name its --data") from error
    if answer.status != 200:
        raise FlyatcError(msgspec.json.decode(data, type=Failure).error)
    return msgspec.json.decode(data, type=Overview)
