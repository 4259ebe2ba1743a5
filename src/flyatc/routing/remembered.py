"""Replays which Fly Proxy remembers, and what ends that when a user has moved. Pure.

https://fly.io/docs/networking/dynamic-request-routing/ (Replay Caching). A replay that is to be remembered may have no
``state``, ``timeout`` or ``fallback``, and its target may have none remembered in turn. The target invalidates "by
issuing a fly-replay back to the origin": that is an app, as the page's example in JSON says it, and ours is one. So a
target which does not serve the user sends the request on to the machine which does, as ever, and invalidates with that.
"""

import re
from collections.abc import Collection
from enum import Enum

from flyatc.config.platform import LEAST_REPLAY_CACHE

Header = tuple[bytes, bytes]

STATUS = b"fly-replay-cache-status"
INVALIDATE: Header = (b"Fly-Replay-Cache", b"invalidate")

_HOST = re.compile(rb"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::[0-9]{1,5})?")


class Came(Enum):
    """How a request found us, as it says itself; a visitor may lie, which changes but what is remembered for him."""

    FIRST = "no other machine was asked"
    REPLAYED = "another machine replayed it"
    REMEMBERED = "a replay which is remembered led here"


def came(sources: Collection[bytes], statuses: Collection[bytes], hops: int) -> Came:
    """``sources``, ``statuses``: of Fly-Replay-Src and Fly-Replay-Cache-Status; ``hops``: see routing.replay.Source.
    All our replays count theirs, but those which are to be remembered."""
    if b"hit" in statuses or (b"miss" in statuses and hops == 0):
        return Came.REMEMBERED
    return Came.REPLAYED if sources or statuses else Came.FIRST


def headers(host: bytes | None, prefix: str, seconds: float) -> list[Header] | None:
    """What has a replay remembered for all that lies below ``prefix`` ("/customers/100", as it stands in the request),
    on this host only. None: it cannot be said."""
    named = _HOST.fullmatch((host or b"").lower())
    if named is None or "*" in prefix or seconds < LEAST_REPLAY_CACHE:
        return None
    pattern = named[1] + prefix.encode() + b"/*"
    return [(b"Fly-Replay-Cache", pattern), (b"Fly-Replay-Cache-TTL-Secs", b"%d" % seconds)]
