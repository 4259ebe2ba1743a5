"""Process exit status and effort; progress callbacks of long steps."""

import signal as signals
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class Exit:
    """A process exit: ``code`` 0-255, or the ``signal`` that killed it; ``output``: its last lines."""

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
    """CPU use of an app's processes. ``cpu``: seconds used; ``wants``: one is running or waits for a core or disk."""

    cpu: float
    wants: bool


class Work(NamedTuple):
    """Work of an app's processes at one moment. ``cpu``: seconds that each has used so far, by pid and start.
    ``asleep``: the threads, by id and start, that sleep for a time (nanosleep(2)), each with its CPU time in ns."""

    cpu: dict[tuple[int, int], float]
    asleep: dict[tuple[int, int], int]


class Progress(Protocol):
    def __call__(self, step: str, done: int, total: int) -> None:
        """Report progress. ``step``: such as copy, for people; done and total in bytes. Called on the loop."""


def silent(step: str, done: int, total: int) -> None:
    """Progress callback that does nothing."""
