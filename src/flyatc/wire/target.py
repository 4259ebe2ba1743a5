"""Parse the request line, the target and the host of a request (RFC 9112 §3). Pure."""

import re

from flyatc.wire.errors import BadMessage

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")

NO_CONNECT = "CONNECT is for forward proxies: this is a reverse proxy"


def check_start(data: bytes | bytearray, start: int, limit: int) -> None:
    """Refuse the start of a head as soon as it cannot become one of at most ``limit`` octets. ``start``: offset of the
    unchecked part. Raises BadMessage."""
    if len(data) > limit:
        raise BadMessage(431, "the request's head is too large")
    if data and data != b"\r" and not (65 <= data[0] <= 90):
        raise BadMessage(400, "this is not HTTP (TLS? it ends before flyatc)")
    if data.find(b"\n\n", start) >= 0:
        raise BadMessage(400, "lines end with CR LF in HTTP/1.1")


def check_line(line: bytes) -> None:
    """Check ``GET /path HTTP/1.1``; only single spaces (RFC 9112 §3: others are ambiguous). Raises BadMessage."""
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[1]:
        raise BadMessage(400, "the request line is not METHOD TARGET VERSION")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0") or parts[0] == b"PRI":  # PRI begins HTTP/2 (RFC 9113 §3.4)
        raise BadMessage(505, "only HTTP/1.1 is supported")


def split(
    method: bytes, target: bytes, hosts: list[bytes] | None, minor: int
) -> tuple[bytes, bytes | None, bytes | None]:
    """Return the target's path, its query, and the host if the target names one (RFC 9112 §3.2). Raises BadMessage."""
    named = None
    if method == b"CONNECT":
        raise BadMessage(405, NO_CONNECT)
    if target[:1] != b"/" and (target != b"*" or method != b"OPTIONS"):
        named, target = _absolute(target)
        hosts = [named]
    if not hosts:
        if minor:
            raise BadMessage(400, "no Host header")
    elif len(hosts) > 1 or not _HOST.fullmatch(hosts[0]):
        raise BadMessage(400, "several Host headers, or an invalid one")
    path, mark, query = target.partition(b"#")[0].partition(b"?")
    return path, query if mark else None, named


def _absolute(target: bytes) -> tuple[bytes, bytes]:
    """Split ``http://host/path`` into the host and ``/path``. Raises BadMessage."""
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in (b"http", b"https") or rest[:1] in (b"", b"/", b"?"):
        raise BadMessage(400, "the request's target is neither a path nor an http address")
    cut = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    host = rest[:cut].rpartition(b"@")[2]
    return host, rest[cut:] if rest[cut : cut + 1] == b"/" else b"/" + rest[cut:]
