"""What Fly Proxy does to the heads of requests and answers. Pure.

https://fly.io/docs/networking/request-headers/ and https://fly.io/docs/networking/services/. What these pages do not
say to be replaced comes through as the visitor sent it, his own ``fly-replay-src`` among it: an app that trusts it
should learn that here.
"""

from collections.abc import Iterable, Mapping

from flyatc.sim.replay import Transform
from flyatc.wire import head

OF_APP = b"66.241.124.1"  # the address of the app at the edge: the last of X-Forwarded-For
VIA = b"1.1 fly.io"
_OURS = frozenset(
    b"fly-client-ip fly-forwarded-port fly-forwarded-proto fly-forwarded-ssl fly-region fly-request-id "
    b"x-forwarded-ssl x-forwarded-port via content-length".split()
)
_OF_A_HOP = (b"fly-replay-src", b"fly-replay-failed", b"fly-replay-cache-status", b"fly-preferred-instance-unavailable")
_HANDED_ON = (b"x-forwarded-host", b"x-request-id", b"x-request-start", b"forwarded", b"x-sendfile-type")

Line = tuple[bytes, bytes]


def lines_of(request: head.Head) -> list[Line]:
    """The header lines that the wire hands on."""
    found = []
    for line in b"".join(request.kept).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name, value.strip(b" \t")))
    return found


def from_visitor(request: head.RequestHead, peer: str, port: int, region: str, identity: str) -> list[Line]:
    """The lines that every machine gets of this request. ``port``: of ours, where the visitor came in."""
    given = lines_of(request)
    noted = request.noted
    came = [*noted.get(b"x-forwarded-for", ()), peer.encode(), OF_APP]
    via = [value for name, value in given if name.lower() == b"via"]
    lines = [line for line in given if line[0].lower() not in _OURS]
    lines += [(name, value) for name in _HANDED_ON for value in noted.get(name, ())]
    lines += [
        (b"X-Forwarded-For", b", ".join(came)),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Port", b"%d" % port),
        (b"X-Forwarded-SSL", b"off"),
        (b"Fly-Client-IP", peer.encode()),
        (b"Fly-Forwarded-Port", b"%d" % port),
        (b"Fly-Region", region.encode()),
        (b"Fly-Request-Id", identity.encode()),
        (b"Via", b", ".join([*via, VIA])),
    ]
    return lines


def towards_machine(request: head.RequestHead, lines: Iterable[Line], of_hop: Mapping[str, str],
                    transform: Transform) -> bytes:  # fmt: skip
    """The head for one machine, with its empty line. ``of_hop``: what this hop adds, in place of what it has."""
    gone = {name.lower().encode() for name in [*of_hop, *transform.delete_headers]}
    gone |= {header.name.lower().encode() for header in transform.set_headers}
    if of_hop:  # what an earlier hop was told is not for the next
        gone.update(_OF_A_HOP)
    target = request.path if request.query is None else request.path + b"?" + request.query
    parts = [b"%b %b HTTP/1.1" % (request.method, transform.path.encode() or target)]
    parts += [b"\r\n%b: %b" % (name, value) for name, value in lines if name.lower() not in gone]
    parts += [f"\r\n{name}: {value}".encode("latin-1") for name, value in of_hop.items()]
    parts += [f"\r\n{header.name}: {header.value}".encode("latin-1") for header in transform.set_headers]
    if request.framing is head.CHUNKED:
        parts.append(b"\r\nTransfer-Encoding: chunked")
    elif request.framing is head.LENGTH or b"content-length" in request.noted:
        parts.append(b"\r\nContent-Length: %d" % request.length)
    if request.upgrade is not None:
        parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: %b" % request.upgrade)
    return b"".join([*parts, b"\r\n\r\n"])


def towards_visitor(answer: head.AnswerHead, identity: str, *, chunks: bool, close: bool) -> bytes:
    """With its empty line. ``chunks``: the body goes out in chunks."""
    gone = {b"server", b"via", b"fly-request-id"}
    via = [value for name, value in lines_of(answer) if name.lower() == b"via"]
    parts = [b"HTTP/1.1 %d %b" % (answer.status, answer.reason)]
    parts += [b"\r\n%b: %b" % (name, value) for name, value in lines_of(answer) if name.lower() not in gone]
    parts += [b"\r\nX-Request-Id: %b" % value for value in answer.noted.get(b"x-request-id", ())]
    parts.append(b"\r\nServer: Fly/simulated\r\nVia: %b" % b", ".join([*via, VIA]))
    parts.append(f"\r\nFly-Request-Id: {identity}".encode())
    if answer.status == 101:
        parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: %b" % b", ".join(answer.noted.get(b"upgrade", ())))
    if chunks:
        parts.append(b"\r\nTransfer-Encoding: chunked")
    if close:
        parts.append(b"\r\nConnection: close")
    return b"".join([*parts, b"\r\n\r\n"])
