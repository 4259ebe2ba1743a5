"""The other side of ``skew/sitecustomize.py``: sets the clocks of one machine."""

import mmap
import os
import struct
import time
from pathlib import Path

SKEW = Path(__file__).parent / "skew"


class Clocks:
    """``rate``: seconds that its clocks run in one of ours."""

    def __init__(self, path: Path, rate: float) -> None:
        self._offset, self._rate, self._since = 0.0, rate, time.clock_gettime(time.CLOCK_BOOTTIME)
        path.write_bytes(bytes(24))
        with path.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 24)
        self._write()
        ways = [str(SKEW), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environ = {"PYTHONPATH": os.pathsep.join(ways), "TORTURE_CLOCK": str(path)}

    def set_wall(self, seconds: float) -> None:
        """By so much further off than before."""
        self._offset += seconds
        self._write()

    def close(self) -> None:
        self._numbers.close()

    def _write(self) -> None:
        self._numbers[:] = struct.pack("3d", self._offset, self._rate, self._since)
