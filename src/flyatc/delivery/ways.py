"""Why a request goes to the app, though there is a cache. Pure."""

from typing import NamedTuple


class Way(NamedTuple):
    """``forward``: why, in the words of RFC 9211 §2.2; ``cache``: in those of X-Cache;
    ``stores``: its answer may be stored; ``unsafe``: its success changes the resource; ``reason``: for the log;
    ``told``, ``told_stored``: header lines."""

    forward: bytes
    cache: str
    stores: bool
    unsafe: bool
    reason: str
    told: bytes
    told_stored: bytes


def way(forward: bytes, cache: bytes, reason: str, *, stores: bool = False, unsafe: bool = False) -> Way:
    status, line = b"\r\nCache-Status: flyatc; fwd=" + forward, b"\r\nX-Cache: " + cache
    return Way(forward, cache.decode(), stores, unsafe, reason, status + line, status + b"; stored" + line)
