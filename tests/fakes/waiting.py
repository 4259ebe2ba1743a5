"""Waiting for facts in tests with a loop; ``whole/daemon.py`` has the same without one."""

import asyncio
from collections.abc import Callable
from time import monotonic

from slowness import SLOWNESS


async def eventually(fact: Callable[[], object], within: float = 30.0) -> None:
    """Wait until ``fact`` is true, ``within`` seconds at most on a quiet machine."""
    began = monotonic()
    while not fact():
        assert monotonic() - began < within * SLOWNESS, "it did not come about"  # asked anew: the load may have grown
        await asyncio.sleep(0.005)
