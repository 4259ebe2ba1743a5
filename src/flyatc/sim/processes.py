"""All processes of a machine, found by what they have inherited: a machine's end ends its apps too, and theirs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
MARK = "FLY_MACHINE_ID"
ROUNDS = 100  # of killing: who is forked meanwhile is found in the next


def of(machine: str) -> Iterator[int]:
    """Their pids, zombies not among them (proc_pid_environ(5) has none of theirs)."""
    mark = f"{MARK}={machine}".encode()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def send(machine: str, number: int) -> int:
    """A signal to all; how many there were."""
    count = 0
    for pid in of(machine):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def end(machine: str) -> None:
    """SIGKILL, until nobody is left."""
    for _ in range(ROUNDS):
        if not send(machine, signal.SIGKILL):
            return
