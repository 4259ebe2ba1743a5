"""Names of headers that a proxy removes, reads or forbids in trailers, and patterns that find them. Pure."""

import re
from collections.abc import Iterable

# Hop-by-hop headers, and those that flyatc sets itself: noted, and removed from the forwarded message.
_CUT_OF_REQUEST = (
    b"connection keep-alive proxy-connection proxy-authorization proxy te trailer transfer-encoding upgrade "
    b"http2-settings expect forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix "
    b"x-request-id x-request-start x-sendfile-type x-accel-mapping"
).split()
_CUT_OF_RESPONSE = (
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authentication-info te trailer "
    b"transfer-encoding upgrade x-request-id x-sendfile x-accel-redirect"
).split()
_OF_FLY = (b"fly-replay", b"fly-replay-cache")  # removed from responses too, unless the app may replay requests
REPLAY = b"application/vnd.fly.replay"  # Content-Type of the other form of a replay: its target is in the body
SINGLE = (b"authorization", b"content-type", b"origin")  # in requests: two different values would be ambiguous
FOR_CACHE = (b"cache-control", b"if-match", b"if-unmodified-since", b"range")
FOR_REPLAY = (b"fly-replay-src", b"fly-replay-failed", b"fly-replay-cache-status")
_OF_REQUEST = (
    b"host", b"content-length", b"accept-encoding", b"fly-client-ip", *FOR_CACHE, *FOR_REPLAY, *SINGLE
)  # fmt: skip
# they name paths: see edge.tenant_paths
_PLACES = (b"set-cookie", b"location", b"content-location", b"refresh", b"service-worker-allowed")
LEFT = frozenset((*_OF_REQUEST, *_PLACES))  # noted, but not removed
_RESERVED = (b"fly-", b"flyatc-")  # prefixes of names that only Fly Proxy or flyatc may set


def _finder(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Return a pattern for the named lines in a head that llhttp has accepted, in lower case. WSGI, CGI and Rack treat
    "-" and "_" as the same: X_Forwarded_For would pass for X-Forwarded-For, so it is found (and removed) as well."""
    return re.compile(rb"\r\n(%b):[ \t]*([^\r\n]*)" % _either(sorted(set(names))))


def _either(names: list[bytes]) -> bytes:
    """Return a pattern for any of the names, as a prefix tree: four times as fast as a list of alternatives."""
    branches = []
    for letter in sorted({name[:1] for name in names if name}):
        rests = [name[1:] for name in names if name[:1] == letter]
        common = letter.replace(b"-", b"[-_]")
        branches.append(common + (_either(rests) if len(rests) > 1 else rests[0].replace(b"-", b"[-_]")))
    one = branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"
    return b"(?:" + one + b")?" if b"" in names else one


IN_REQUEST = _finder((*_CUT_OF_REQUEST, *_OF_REQUEST))
IN_RESPONSE = _finder((*_CUT_OF_RESPONSE, *_OF_FLY, *_PLACES, b"content-length"))
IN_UNFILTERED_RESPONSE = _finder((*_CUT_OF_RESPONSE, *_PLACES, b"content-length"))


def is_reserved(name: bytes) -> bool:
    """Return whether only a trusted proxy may set the header; then a client must not remove it either (``name`` in
    lower case)."""
    return name.startswith(_RESERVED)


def is_trailer(name: bytes) -> bool:
    """Return whether the field may be sent after a body (``name`` in lower case, with ``-`` for ``_``)."""
    return name not in _NO_TRAILERS and not name.startswith(_RESERVED)


# Fields of framing, routing and authentication may not come late (RFC 9110 §6.5.1), nor may those that flyatc sets.
_NO_TRAILERS = frozenset(
    (
        *_CUT_OF_REQUEST,
        *_CUT_OF_RESPONSE,
        *_OF_FLY,
        *LEFT,
        *b"authorization cookie set-cookie www-authenticate date age expires cache-control pragma vary".split(),
        *b"location retry-after max-forwards range content-encoding content-type content-range".split(),
        *b"x-cache cache-status refresh x-real-ip".split(),
    )
)
