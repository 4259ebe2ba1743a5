"""Time limits of tests, longer on a slow or busy machine: write ``within = 20 * SLOWNESS`` for 20 s on a quiet one.

Only the end of a wait is multiplied, never what must be found by then. The product is a plain number: where a wait is
long, multiply again at each look, as ``eventually`` in ``whole/daemon.py`` does.

The factor is 1 on an ordinary machine while nothing but this suite runs. It grows with

- the load: what wants to run, for each core, beyond the two for each core that the suite itself causes;
- the hardware: how long a Python takes to start, measured once a session.

``FLYATC_TEST_SLOWNESS=5`` sets it by hand.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

BY_HAND = "FLYATC_TEST_SLOWNESS"
MEASURED = "FLYATC_TEST_HARDWARE"  # from the first process of the session to the workers
USUAL_START = 0.03  # s; of a Python without site-packages, on a machine of factor 1
OWN_LOAD = 2.0  # for each core
MOST = 20.0


def factor(by_hand: str | None, hardware: float, load: float, cores: int) -> float:
    """Pure."""
    if by_hand:
        return float(by_hand)
    return min(MOST, max(1.0, hardware) * max(1.0, load / cores / OWN_LOAD))


def load() -> float:
    """Threads that want to run: now, or on average over the last minute, whichever is more (proc_loadavg(5))."""
    average, _, _, running, _ = Path("/proc/loadavg").read_text().split()
    return max(float(average), float(running.partition("/")[0]))


def measure_hardware() -> float:
    """The best of three starts: the load is counted apart from it."""
    found = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        found.append(time.perf_counter() - began)
    return min(found) / USUAL_START


class Slowness:
    """A number which is read anew whenever something is multiplied by it."""

    def __init__(self) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._hardware = float(os.environ.setdefault(MEASURED, f"{measure_hardware():.3f}"))

    def __float__(self) -> float:
        return factor(os.environ.get(BY_HAND), self._hardware, load(), self._cores)

    def __mul__(self, seconds: float) -> float:
        return seconds * float(self)

    __rmul__ = __mul__


SLOWNESS = Slowness()
