"""The file descriptors that clients must not use up: databases, the store and apps that start need some.

Linux gives a new descriptor the lowest free number, so this number shows how many are open (open(2)).
"""

import asyncio
import os
import resource
from functools import lru_cache
from typing import NamedTuple

from flyatc.kit import file_limit

MOST_SPARED = 8192
UNLIMITED = file_limit.MOST
ADVICE = f"raise the hard limit of open files ({file_limit.WAYS})"


class Bounds(NamedTuple):
    """``crowded``: from this number on, idle connections are closed, none is kept for later, and new ones of clients
    are accepted only if an idle one was closed for them; ``full``: from this one on, none is opened to an app."""

    crowded: int
    full: int


@lru_cache(1)
def bounds() -> Bounds:
    """Return the bounds of this process; its limit is read once."""
    return within(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def within(limit: int) -> Bounds:
    """Return the bounds for a soft limit (getrlimit(2)): a quarter is spared, at most MOST_SPARED."""
    if limit == resource.RLIM_INFINITY:
        limit = UNLIMITED
    spared = min(limit // 4, MOST_SPARED)
    return Bounds(limit - spared, limit - spared // 2)


def lowest_free() -> int:
    """Return the number that the next descriptor will have; UNLIMITED if there can be none."""
    try:
        one = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return UNLIMITED
    os.close(one)
    return one


def number(transport: asyncio.BaseTransport) -> int:
    """Return the descriptor of a connection; 0 if it has none."""
    own = transport.get_extra_info("socket")
    return 0 if own is None else own.fileno()
