"""The bound on starts for users of whom nothing is on record: names cost nothing to whoever makes them up."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from flyatc.kit.allowance import Allowance


class TooManyNewcomers(Exception):
    """See ``House.newcomers``."""

    def __str__(self) -> str:
        return "more users of whom nothing is on record are asked for than are started"


@contextlib.contextmanager
def counted(allowance: Allowance, newcomer: Callable[[], bool]) -> Iterator[None]:
    """Counts one start, whatever it waits for. ``newcomer`` may turn False inside. Raises TooManyNewcomers."""
    if not newcomer():
        yield
        return
    now = asyncio.get_running_loop().time()
    if not allowance.welcome(now):
        raise TooManyNewcomers
    allowance.come(now)
    try:
        yield
    finally:
        allowance.leave(known=not newcomer())
