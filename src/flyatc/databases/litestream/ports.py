"""What this room needs of ``process``, which it may not import: handed in by the daemon."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from flyatc.kit.exits import Exit


class Running(Protocol):
    """A program. Leaving its hold ends its whole process group."""

    @property
    def exited(self) -> asyncio.Event: ...

    @property
    def exit(self) -> Exit | None:
        """None while it runs."""


class Run(Protocol):
    def __call__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        hear: Callable[[str, str], None],
        grace: float,
        hurry: Callable[[], bool],
        directory: Path,
    ) -> AbstractAsyncContextManager[Running]:
        """Spawned on the way in, on record for the next daemon; on the way out SIGTERM, ``grace`` seconds, SIGKILL, or
        SIGKILL at once where ``hurry()``. ``hear`` gets the stream's name and each line. Raises StartFailed."""
