"""Calls of ``flyatc sim ps`` and other commands to a running simulator, found by its discovery file. Does not import
the simulator's server: commands must start fast."""

import http.client
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.kit.errors import FlyatcError
from flyatc.sim.types import Failure, Faults, Overview

FILE = "running.json"
STOP_PATIENCE = 120.0  # s; a stop waits until the machine has stopped


class Running(Struct, frozen=True):
    host: str
    port: int  # of the API


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
