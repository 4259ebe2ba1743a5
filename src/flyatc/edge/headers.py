"""Rewrite the headers of requests to the app and of responses to the client. Pure."""

import re
from copy import copy
from random import Random

from flyatc.wire import head

_LOCALHOST = [b"localhost"]  # an HTTP/1.0 client may send none
_ID = re.compile(rb"[!-~]{1,200}")
REMOTE_USER = tuple(b"x%bremote%buser" % (one, two) for one in (b"-", b"_") for two in (b"-", b"_"))  # as WSGI reads it
_EMPTY_ENTRIES = 8  # of X-Forwarded-For that are skipped: a list may have some (RFC 9110 §5.6.1.2)
random_bits = Random().getrandbits  # noqa: S311 - ids are for finding lines in a log, not secrets
# The head for the app where the client's can be passed on as it is: ``RequestHead.whole``, peer, host, request id,
# milliseconds, more lines. As ``towards_app`` makes it.
WHOLE = (
    b"%b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: %b"
    b"\r\nX-Request-Id: %b\r\nX-Request-Start: t=%d%b\r\n\r\n"
)
# A head of ``towards_client`` whose framing and date are the app's: status, reason, lines, request id; and a body.
ORDINARY = b"HTTP/1.1 %d %b%b\r\nX-Request-Id: %b\r\n\r\n%b"


def new_id() -> bytes:
    return b"%032x" % random_bits(128)


def request_id(request: head.RequestHead) -> bytes:
    """Return the client's X-Request-Id if it is valid, else a new one of 32 hexadecimal digits."""
    if (given := request.one(b"x-request-id")) is not None and _ID.fullmatch(given):
        return given
    return new_id()


def towards_app(
    request: head.RequestHead,
    *,
    path: bytes,
    peer: bytes,
    identity: bytes,
    milliseconds: int,
    forward: bool,
    prefix: bytes | None,
    more: bytes = b"",
) -> bytes:
    """Return the head that the app sees, as HTTP/1.1, with its empty line.

    ``forward``: whether X-Forwarded-* of the request are kept; ``prefix``: sent as X-Forwarded-Prefix if it was
    stripped; ``more``: header lines, each begun by CR LF; ``milliseconds``: Unix time at which the request arrived,
    for X-Request-Start."""
    noted = request.noted
    target = path if request.query is None else path + b"?" + request.query
    host = noted.get(b"host", _LOCALHOST)[0]
    came, proto, wanted = peer, b"http", host
    if forward:
        if b"x-forwarded-for" in noted:
            came = b", ".join([*(v for v in noted[b"x-forwarded-for"] if v), peer])
        proto = request.one(b"x-forwarded-proto") or proto
        wanted = request.one(b"x-forwarded-host") or wanted
    start = request.one(b"x-request-start") or b"t=%d" % milliseconds
    parts = [b"%b %b HTTP/1.1" % (request.method, target), *request.kept]
    parts.append(
        b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b"
        b"\r\nX-Request-Id: %b\r\nX-Request-Start: %b" % (came, proto, wanted, identity, start)
    )
    if b"host" not in noted:
        parts.append(b"\r\nHost: localhost")
    if prefix is not None:
        parts.append(b"\r\nX-Forwarded-Prefix: %b" % prefix)
    _of_this_hop(request, parts)
    parts.append(more)
    parts.append(b"\r\n\r\n")
    return b"".join(parts)


DASHBOARD_COOKIE = b"flyatc_dashboard"  # the names of the dashboard's cookies begin with it
_CLIENT, _PORTS = b"flyatc-client", b"flyatc-ports"
_COOKIE = re.compile(rb"\r\ncookie:[ \t]*([^\r]*)", re.IGNORECASE)


def towards_dashboard(
    request: head.RequestHead, *, path: bytes, peer: str, remote: str, ports: bytes, identity: bytes, milliseconds: int
) -> bytes:
    """Return the head that the dashboard sees. ``path``: below its own; ``remote``: the client's address, sent in
    Flyatc-Client; ``ports``: those of the connection, sent in Flyatc-Ports."""
    request.drop(_CLIENT, _PORTS)
    return towards_app(
        request,
        path=path,
        peer=peer.encode(),
        identity=identity,
        milliseconds=milliseconds,
        forward=True,
        prefix=None,
        more=b"\r\nFlyatc-Client: %b\r\nFlyatc-Ports: %b" % (remote.encode("latin-1", "replace"), ports),
    )


def without_dashboard_cookies(request: head.RequestHead) -> head.RequestHead:
    """Return a copy of a client's head without them: no app may see them."""
    found = copy(request)
    found.whole, found.kept = None, [_COOKIE.sub(_of_apps, b"".join(request.kept))]
    return found


def _of_apps(line: re.Match[bytes]) -> bytes:
    pairs = [pair for pair in line[1].split(b";") if not pair.strip(b" \t").startswith(DASHBOARD_COOKIE)]
    return b"\r\nCookie: " + b";".join(pairs).strip(b" \t") if pairs else b""


# Replaced on the way to an app; on the way to a peer machine they stay, because that machine replaces them.
_AS_THEY_CAME = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix")


def towards_peer(request: head.RequestHead, *, signature: bytes, identity: bytes, milliseconds: int) -> bytes:
    """Return the head for a peer machine: as it arrived, so that the peer sees what Fly Proxy would have sent it.

    ``signature``: its header line, begun by CR LF; ``milliseconds``: as in ``towards_app``. The connection is
    for this request only: on a reused one a failure does not show whether the request was begun."""
    noted = request.noted
    parts = [b"%b %b HTTP/1.1" % (request.method, target(request)), *request.kept]
    if b"host" not in noted:
        parts.append(b"\r\nHost: localhost")
    for name in _AS_THEY_CAME:
        parts += [b"\r\n%b: %b" % (name.title(), value) for value in noted.get(name, ())]
    start = request.one(b"x-request-start") or b"t=%d" % milliseconds
    parts.append(b"\r\nX-Request-Id: %b\r\nX-Request-Start: %b" % (identity, start))
    _of_this_hop(request, parts)
    parts.append(signature)
    parts.append(b"\r\nConnection: close\r\n\r\n")
    return b"".join(parts)


def target(request: head.RequestHead) -> bytes:
    """Return path and query, byte for byte."""
    return request.path if request.query is None else request.path + b"?" + request.query


def _of_this_hop(request: head.RequestHead, parts: list[bytes]) -> None:
    """Append the hop-by-hop headers for the next hop; those of the previous one were removed."""
    noted = request.noted
    if request.framing is head.CHUNKED:
        parts.append(b"\r\nTransfer-Encoding: chunked")
        parts += [b"\r\nTrailer: %b" % v for v in noted.get(b"trailer", ())]
    if request.upgrade is not None:
        parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: %b" % request.upgrade)
    if b"te" in noted and b"trailers" in head.tokens(noted[b"te"]):
        parts.append(b"\r\nTE: trailers")
    if b"expect" in noted and request.minor:
        parts += [b"\r\nExpect: %b" % v for v in noted[b"expect"]]


def towards_client(answer: head.ResponseHead, *, framing: bytes, identity: bytes, date: bytes, close: bool) -> bytes:
    """Return the head that the client sees, with its empty line. ``framing``: a header line (begun by CR LF) that
    delimits the body if the app's own lines do not; ``date``: the line used if the app sent none; ``close``: send
    Connection: close."""
    noted, status = answer.noted, answer.status
    if (status < 200 or status == 204) and b"content-length" in noted:
        answer.drop(b"content-length")  # RFC 9110 §8.6
    parts = [b"HTTP/1.1 %d %b" % (status, answer.reason), *answer.kept]
    if status >= 200:
        if not answer.dated:
            parts.append(date)
        parts.append(b"\r\nX-Request-Id: " + identity)
    elif status == 101:
        protocols = b", ".join(noted.get(b"upgrade", [b"websocket"]))
        parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\nX-Request-Id: %b" % (protocols, identity))
    if framing:
        parts.append(framing)
        parts += [b"\r\nTrailer: %b" % v for v in noted.get(b"trailer", ())]
    if status == 426 and b"upgrade" in noted:
        parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: %b" % b", ".join(noted[b"upgrade"]))
    parts.append(b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n")
    return b"".join(parts)


def is_private_peer(peer: str) -> bool:
    """Return whether the address is on Fly's private network: then the peer is a machine of the organization. Fly Proxy
    connects by IPv4 (https://fly.io/docs/networking/app-services/)."""
    return peer.startswith("fdaa:")


def names_remote(hops: int | None, on_fly: bool) -> bool:
    """Return whether ``remote`` may differ from the peer."""
    return on_fly if hops is None else hops > 0


def remote(request: head.RequestHead, peer: str, hops: int | None, on_fly: bool) -> str:
    """Return the client's address for the log: the entry of X-Forwarded-For that the outermost of ``hops`` trusted
    proxies made, or Fly-Client-IP of Fly Proxy, or the peer. Never a value that the client could have forged."""
    if hops is None:
        if not on_fly or is_private_peer(peer):
            return peer
        given = request.one(b"fly-client-ip")
        return given.decode("latin-1") if given else peer
    if hops == 0:
        return peer
    given = request.joined(b"x-forwarded-for") or b""
    last = given.rsplit(b",", hops + _EMPTY_ENTRIES)[-hops - _EMPTY_ENTRIES :]
    entries = [entry for entry in map(bytes.strip, last) if entry]
    return entries[-hops].decode("latin-1") if len(entries) >= hops else peer
