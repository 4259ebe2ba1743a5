"""Stable machine ids, and ids of the daemon's runs."""

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError
from flyatc.ownership.record import Label, Machine, Me, Process, Unique

PROC = Path("/proc")
REMEMBERED = 20  # runs; only the last one that wrote a session matters


class _File(Struct, frozen=True, kw_only=True):
    v: Annotated[int, Meta(ge=1, le=1)] = 1
    machine: Machine
    folder: int  # its inode: a copy of the data folder, beside or elsewhere, is another machine
    boots: list[Unique]


def read(data: Path, environ: Mapping[str, str]) -> Me:
    """Return this machine and run, and record the run. To be called once, by a daemon that holds the data folder's
    lock, so that all earlier runs on it have ended. Raises FlyatcError."""
    path, boot = data / ".flyatc" / "machine.json", uuid.uuid4().hex
    try:
        given = msgspec.convert(environ.get("FLY_MACHINE_ID") or None, Machine | None)
        durable_files.make_folder(path.parent)
        folder = path.parent.stat().st_ino
        file = _read(path, folder)
        if file is None or (given and file.machine != given):
            file = _File(machine=given or f"local-{uuid.uuid4().hex[:12]}", folder=folder, boots=[])
        now = msgspec.structs.replace(file, boots=[*file.boots, boot][-REMEMBERED:])
        durable_files.write(path, msgspec.json.encode(now))
        return Me(
            machine=now.machine,
            app=msgspec.convert(environ.get("FLY_APP_NAME") or "local", Label),
            region=msgspec.convert(environ.get("FLY_REGION", ""), Label),
            boot=boot,
            process=_ourselves(data),
            boots=frozenset(file.boots),
            platform=given is not None,
        )
    except OSError as error:
        raise FlyatcError(f"{path} cannot be written: {error.strerror}. See server.data.") from error
    except msgspec.ValidationError as error:
        raise FlyatcError(f"FLY_MACHINE_ID, FLY_APP_NAME or FLY_REGION is not a name: {error}") from error


def rewrite(data: Path, me: Me) -> None:
    """Write the record again after the folder was deleted and made anew. Raises OSError."""
    path = data / ".flyatc" / "machine.json"
    durable_files.make_folder(path.parent)
    boots = [*sorted(me.boots), me.boot][-REMEMBERED:]
    durable_files.write(
        path, msgspec.json.encode(_File(machine=me.machine, folder=path.parent.stat().st_ino, boots=boots))
    )


def folder_mark(data: Path) -> str:
    """Return a hash that identifies the data folder on this kernel: the same path in another container is another
    folder. Empty if it cannot be determined."""
    try:
        spaces = [(PROC / "self/ns" / name).stat().st_ino for name in ("pid", "mnt")]
    except OSError:
        return ""
    kernel = _kernel()
    return hashlib.sha256(f"{kernel}:{spaces}:{data.resolve()}".encode()).hexdigest()[:32] if kernel else ""


def daemon_has_ended(process: Process, me: Me) -> bool:
    """Return whether a daemon on our data folder, under any machine name, has surely ended. The folder is locked by us,
    and our start ended its leftover processes."""
    return bool(process.folder) and process.folder == me.process.folder and not is_running(process)


def recorded_name(data: Path, environ: Mapping[str, str]) -> str | None:
    """Return this machine's recorded name, without changes. None: no daemon has run on the data folder. Raises
    OSError."""
    path = data / ".flyatc" / "machine.json"
    file = _read(path, path.parent.stat().st_ino) if path.exists() else None
    return environ.get("FLY_MACHINE_ID") or (file.machine if file is not None else None)


def is_running(process: Process) -> bool:
    """Return whether the process runs now. Valid only for one of this machine since its last boot."""
    return _started(process.pid) == process.started


def _read(path: Path, folder: int) -> _File | None:
    """Read the record. None if absent, damaged, or from a copied folder: this is then a new machine, which is safe."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return file if file.folder == folder else None


def _ourselves(data: Path) -> Process:
    pid = os.getpid()
    return Process(kernel=_kernel(), pid=pid, started=_started(pid) or 0, folder=folder_mark(data))


def _kernel() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Start time in clock ticks since boot: proc_pid_stat(5), field 22. The name in brackets may hold any character."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return int(text[text.rindex(b")") + 2 :].split()[19])
