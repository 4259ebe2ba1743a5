"""Where a running simulator is found, and how ``flyatc sim ps`` and its sisters ask it."""

import fcntl
import http.client
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.kit import durable
from flyatc.kit.errors import FlyatcError
from flyatc.sim.shapes import Failure, Faults, Overview

FILE = "running.json"
LOCK = "lock"
PATIENCE = 120.0  # s; a stop waits for the machine's end


class Running(Struct, frozen=True):
    host: str
    port: int  # of the API


def claim(folder: Path) -> int:
    """The descriptor of the lock; one simulator for each folder. Raises FlyatcError."""
    durable.make_folder(folder)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise FlyatcError(f"another flyatc sim runs with {folder}: stop it first, or name another --data") from error
    return descriptor


def tell(folder: Path, running: Running) -> None:
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
        connection = http.client.HTTPConnection(where.host, where.port, timeout=PATIENCE)
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
