"""How a process ended.

How a long step tells how far it has come.
"""

import signal as signals
from dataclasses import dataclass
from typing import NamedTuple, Protocol


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


class Progress(Protocol):
    def __call__(self, step: str, done: int, total: int) -> None:
        """``step`` is a word for people (copy, upload, download); done and total in bytes. Called on the loop."""


def silent(step: str, done: int, total: int) -> None:
    """Tells nobody."""
