"""How a process ended."""

import signal as signals
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Exit:
    """``code`` 0-255, or ``signal`` where one killed it; the last lines of its output."""

    code: int | None
    signal: int | None = None
    output: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            return f"killed by {signals.Signals(self.signal).name}"
        except ValueError:
            return f"killed by signal {self.signal}"


class Effort(NamedTuple):
    """The work of an app's processes. ``cpu``: seconds used; ``wants``: one is running, waits for a core or a disk."""

    cpu: float
    wants: bool
