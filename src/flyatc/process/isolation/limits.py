"""Limits of memory and CPU: by the run's cgroup (cgroups(7), version 2), else by limits of each process. Blocking."""

import contextlib
import math
import os
from pathlib import Path

PERIOD = 100_000  # µs, of cpu.max: the kernel's default


def limit(cgroup: str, memory: int | None, cpu: float | None, turn: int) -> tuple[list[str], str]:
    """Limit a run. Return what its first process must do (see ``confine``) and a description.

    ``cgroup``: its folder, empty without one. ``turn``: any number, spreads apps over the cores.
    RLIMIT_DATA counts the private writable memory of one process (getrlimit(2)). An affinity bounds the cores, but
    the app may change it."""
    words, said = [], []
    if memory is not None:
        if _write(cgroup, "memory", "memory.max", str(memory)):
            _write(cgroup, "memory", "memory.oom.group", "1")
            said.append(f"memory {memory >> 20} MB")
        else:
            words.append(f"memory={memory}")
            said.append(f"memory {memory >> 20} MB in each process")
    if cpu is not None:
        if _write(cgroup, "cpu", "cpu.max", f"{max(1000, round(cpu * PERIOD))} {PERIOD}"):
            said.append(f"cpu {cpu:g}")
        else:
            cores, most = sorted(os.sched_getaffinity(0)), math.ceil(cpu)
            if most < len(cores):
                chosen = sorted(cores[(turn + number) % len(cores)] for number in range(most))
                words.append(f"cores={','.join(map(str, chosen))}")
            said.append(f"cpu {min(most, len(cores))} cores, unless the app changes that")
    return words, ", ".join(said)


def _write(cgroup: str, controller: str, name: str, value: str) -> bool:
    """Write a file of the run's cgroup, and enable the controller for it first. False: it is not available."""
    if not cgroup:
        return False
    file = Path(cgroup, name)
    if not file.exists():
        for above in (file.parents[2], file.parents[1]):
            with contextlib.suppress(OSError):  # EBUSY: processes are in it, as in that of a systemd service
                (above / "cgroup.subtree_control").write_text(f"+{controller}")
    try:
        with file.open("r+") as opened:  # creates nothing
            opened.write(value)
    except OSError:
        return False
    return True
