"""Processes that tests have started and not ended. Each inherits the mark of the session in its environment."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "PYTEST_SESSION_MARK"  # not FLYATC_…: the daemon withholds those from its apps
TEST = "PYTEST_CURRENT_TEST"  # pytest sets it


def mark_session() -> None:
    """Mark all that this process starts from now on. xdist's workers are among that: they must not mark themselves."""
    os.environ[MARK] = uuid.uuid4().hex


@dataclass(frozen=True)
class Leftover:
    pid: int
    command: str
    test: str  # which started it, or had its starter started

    def __str__(self) -> str:
        return f"pid {self.pid}: {self.command}, started by {self.test}"


def find(mark: str) -> list[Leftover]:
    """The marked processes without this one. Zombies have no environment (proc_pid_environ(5)), and are not found."""
    return [
        Leftover(pid, _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip(), _test(pid))
        for pid in _pids()
        if pid != os.getpid() and _has(pid, mark)
    ]


def end(mark: str, patience: float) -> list[Leftover]:
    """Kill what is still there after ``patience`` seconds, and return it."""
    deadline = time.monotonic() + patience
    while (found := find(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)  # noqa: TID251 - polling for a fact
    for one in found:
        with contextlib.suppress(ProcessLookupError), _pidfd(one.pid) as descriptor:
            if _has(one.pid, mark):  # it is still that one: the descriptor keeps it from being replaced
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):  # it has ended, or is someone else's
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _has(pid: int, mark: str) -> bool:
    return f"{MARK}={mark}".encode() in _read(pid, "environ").split(b"\0")


def _test(pid: int) -> str:
    for variable in _read(pid, "environ").split(b"\0"):
        if variable.startswith(f"{TEST}=".encode()):
            return variable.partition(b"=")[2].decode(errors="replace")
    return "no test"


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
