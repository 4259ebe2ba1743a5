"""Clocks of its own for one Python process, and for its children: the interpreter imports this by its name where this
folder is on PYTHONPATH.

The file named by $TORTURE_CLOCK holds three numbers (``torture.clocks``): by how much the wall clock is off, in
seconds; how fast both clocks run; and since which CLOCK_BOOTTIME. It may change at any time. What flyatc asks of clocks
for its decisions goes through ``time.time`` and ``time.clock_gettime``; the timers of a loop and the kernel's own
stamps are not bent.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_file = os.environ.get("TORTURE_CLOCK")
if _file is not None:
    with Path(_file).open("rb") as _opened:
        _numbers = mmap.mmap(_opened.fileno(), 24, access=mmap.ACCESS_READ)
    _gettime, _time = time.clock_gettime, time.time

    def _gained() -> tuple[float, float]:
        """How much later it is than it should be: by the wall, by CLOCK_BOOTTIME."""
        offset, rate, since = struct.unpack("3d", _numbers)
        gained = (_gettime(time.CLOCK_BOOTTIME) - since) * (rate - 1)
        return gained + offset, gained

    def _bent_time() -> float:
        return _time() + _gained()[0]

    def _bent_gettime(clock: int) -> float:
        return _gettime(clock) + (_gained()[1] if clock == time.CLOCK_BOOTTIME else 0.0)

    time.time, time.clock_gettime = _bent_time, _bent_gettime
