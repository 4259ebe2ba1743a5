"""Rules of Fly Proxy: choice of machines, replay cache, rewriting of heads. Pure; times are passed in, in seconds.

Choice: https://fly.io/docs/networking/dynamic-request-routing/, https://fly.io/docs/reference/load-balancing/ and
https://fly.io/docs/reference/fly-proxy-autostop-autostart/.

Cache, by host and path: https://fly.io/docs/networking/dynamic-request-routing/ (Replay Caching). Caching by session,
configured in fly.toml, is not simulated. That page lets the target invalidate by "a fly-replay back to the origin",
and does not define other targets: here the replay must lead to the app that had the entry cached.

Heads: https://fly.io/docs/networking/request-headers/ and https://fly.io/docs/networking/services/. Headers that these
pages do not name as replaced pass through as the client sent them, including ``fly-replay-src``: an app that trusts
that one should fail here too.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from flyatc.sim.replay import BadReplay, Caching, Replay, Transform
from flyatc.wire import head

ALIASES = {
    "na": "atl bos den dfw ewr iad lax mia ord phx sea sjc yul yyz qro gdl",
    "us": "atl bos den dfw ewr iad lax mia ord phx sea sjc",
    "eu": "ams arn cdg fra lhr mad otp waw",
    "sa": "bog eze gig gru scl",
    "apac": "bom hkg nrt sin syd",
}
ANYWHERE = "any"
RUNNING = "started"
STARTABLE = frozenset(("stopped", "suspended", "suspending"))  # created, replacing: PM07; stopping, destroyed: PM08


class MachineView(Struct, frozen=True):
    """A machine as the proxy sees it, possibly outdated. ``load``: requests in flight."""

    id: str
    app: str
    region: str
    state: str
    autostart: bool = True
    cordoned: bool = False
    load: int = 0

    @property
    def usable(self) -> bool:
        return self.state == RUNNING or (self.autostart and self.state in STARTABLE)


def candidates(machines: Sequence[MachineView], want: Replay, edge: str, origin: str | None) -> list[MachineView]:
    """Return the usable machines, best first. ``want.app`` must be set. ``edge``: the region where the request arrived;
    ``origin``: the machine that replayed."""
    found = [m for m in machines if m.app == want.app and m.usable and not m.cordoned]
    if want.instance:
        found = [m for m in found if m.id == want.instance]
    if want.elsewhere:
        found = [m for m in found if m.id != origin]
    if want.regions:
        found = [m for m in found if _rank(m, want.regions) is not None]

    def best_first(machine: MachineView) -> tuple[bool, int, bool, bool, int, str]:
        return (
            machine.id != want.prefer_instance,
            _rank(machine, want.regions) or 0,
            machine.state != RUNNING,
            machine.region != edge,
            machine.load,
            machine.id,
        )

    return sorted(found, key=best_first)


def _rank(machine: MachineView, regions: Sequence[str]) -> int | None:
    """Return the index of the first wanted region that the machine is in, or None."""
    for place, region in enumerate(regions):
        if region in (ANYWHERE, machine.region) or machine.region in ALIASES.get(region, "").split():
            return place
    return None


class Entry(Struct, frozen=True):
    host: str
    prefix: str  # "/100/"
    until: float
    target: Replay
    allow_bypass: bool
    origin: str  # the app that had it cached


class Cache:
    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def find(self, host: str, path: str, now: float) -> Entry | None:
        """Return the entry with the longest matching prefix."""
        self._entries = {key: one for key, one in self._entries.items() if one.until > now}
        fitting = [one for one in self._entries.values() if one.host == host and path.startswith(one.prefix)]
        return max(fitting, key=lambda one: len(one.prefix), default=None)

    def keep(self, host: str, path: str, replay: Replay, rule: Caching, origin: str, now: float) -> None:
        """Add an entry. ``origin``: the app that replays. Raises BadReplay if the pattern does not match the request.
        Each pattern "implicitly ends with a wildcard", of whole segments."""
        named, slash, rest = rule.prefix.partition("/")
        prefix = (slash + rest).removesuffix("*").rstrip("/") + "/"
        if (named and named.lower() != host) or not path.startswith(prefix):
            raise BadReplay(f"fly-replay-cache: {rule.prefix} does not match the request")
        target = Replay(
            instance=replay.instance, prefer_instance=replay.prefer_instance, region=replay.region, app=replay.app
        )
        self._entries[host, prefix] = Entry(host, prefix, now + rule.ttl, target, rule.allow_bypass, origin)

    def forget(self, host: str, path: str, towards: str) -> None:
        """Remove matching entries. ``towards``: the target app of the invalidating replay."""
        self._entries = {
            key: one
            for key, one in self._entries.items()
            if one.host != host or not path.startswith(one.prefix) or one.origin != towards
        }


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
    """Return the header lines kept by the wire package."""
    found = []
    for line in b"".join(request.kept).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name, value.strip(b" \t")))
    return found


def from_client(request: head.RequestHead, peer: str, port: int, region: str, identity: str) -> list[Line]:
    """Return the header lines of this request for every machine. ``port``: the proxy's port."""
    given = lines_of(request)
    noted = request.noted
    passed = [*noted.get(b"x-forwarded-for", ()), peer.encode(), OF_APP]
    via = [value for name, value in given if name.lower() == b"via"]
    lines = [line for line in given if line[0].lower() not in _OURS]
    lines += [(name, value) for name in _HANDED_ON for value in noted.get(name, ())]
    lines += [
        (b"X-Forwarded-For", b", ".join(passed)),
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
    """Return the request head for one machine, with the empty line. ``of_hop``: headers that this hop replaces."""
    gone = {name.lower().encode() for name in [*of_hop, *transform.delete_headers]}
    gone |= {header.name.lower().encode() for header in transform.set_headers}
    if of_hop:  # headers of an earlier hop are not for the next
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


def towards_client(answer: head.ResponseHead, identity: str, *, chunks: bool, close: bool) -> bytes:
    """Return the response head for the client, with the empty line. ``chunks``: the body is sent chunked."""
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
