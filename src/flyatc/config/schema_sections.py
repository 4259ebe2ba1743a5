"""How answers are delivered: the section ``delivery:`` of an app, and what the daemon has for all of them.

What tenants.yaml may say of Fly: its sections ``fly``, ``replay`` and ``machine_idle``; and how names look there.

What tenants.yaml may say of limits and of the log: its sections ``limits`` and ``log``.

Durations and sizes as fields of the schema. ``extra["unit"]`` tells config.shapes that the file may say them with a
unit, as text.

An address to listen at, or to ask. Frozen.
"""

import re
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

Seconds = Annotated[float, Meta(ge=0, description="a duration: 500ms, 60s, 5m, 1h30m", extra={"unit": "seconds"})]
PositiveSeconds = Annotated[float, Meta(gt=0, description="a duration above 0", extra={"unit": "seconds"})]
Octets = Annotated[int, Meta(ge=0, description="a size: 512, 64KB, 10MB", extra={"unit": "octets"})]
PositiveOctets = Annotated[int, Meta(gt=0, description="a size above 0", extra={"unit": "octets"})]


Coding = Literal["zstd", "br", "gzip"]

MOST_JITTER = 65_533  # octets: what fits into gzip's comment

_PLACE = re.compile(r"(?:/[^/?#%\\\x00-\x20\x7f]+)*/?")
_VALUE = re.compile(r"[\t -~]*")


class Compression(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: bodies go out as the app made them")] = True
    min_size: Annotated[Octets, Meta(description="smaller bodies are not compressed, where the size is known")] = 1024
    codings: Annotated[
        list[Coding], Meta(description="what visitors are offered; where they like several equally, the first")
    ] = field(default_factory=lambda: ["zstd", "br", "gzip"])
    jitter: Annotated[
        int, Meta(ge=0, le=MOST_JITTER, description="most octets of padding of a body, against BREACH; 0: none")
    ] = 32
    disable_on_auth: Annotated[
        bool, Meta(description="true: no compression with cookies, Authorization, or answers for one visitor only")
    ] = False


class Sendfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[
        bool, Meta(description="send the file which the app names in X-Sendfile or X-Accel-Redirect")
    ] = True
    roots: Annotated[
        list[str],
        Meta(
            description="folders whose files may be sent, relative to this file, placeholders as in env; "
            "none: the app's directory and the tenant's data"
        ),
    ] = field(default_factory=list)


class Folder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry of ``static:``. The folder with the longest path that fits is asked first."""

    path: Annotated[str, Meta(description="where it is seen, below the tenant's prefix: /assets, or / for all")]
    folder: Annotated[str, Meta(description="the folder; relative to the app's directory")]
    max_age: Annotated[
        Seconds | None, Meta(description="sends Cache-Control: public, max-age=…; null: no such header")
    ] = None
    immutable: Annotated[bool, Meta(description="with max_age: names with a digest, whose content never changes")] = (
        False
    )
    cache_control: Annotated[str | None, Meta(description="the whole header instead of max_age and immutable")] = None
    index: Annotated[list[str], Meta(description="what is sent for a folder: the first that exists; []: nothing")] = (
        field(default_factory=lambda: ["index.html"])
    )
    precompressed: Annotated[bool, Meta(description="send app.css.br, .zst or .gz where it lies beside app.css")] = True
    fallthrough: Annotated[bool, Meta(description="what is not there is asked of the app; false: 404")] = True

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not _PLACE.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is not a path: write / or /assets, without % and spaces")
        if self.cache_control is not None and not _VALUE.fullmatch(self.cache_control):
            raise ValueError(f"{self.cache_control!r} cannot stand in a header")
        for name in self.index:
            if "/" in name or name.startswith(".") or not name:
                raise ValueError(f"{name!r} is not the name of an index file")

    @property
    def header(self) -> bytes | None:
        """The value of Cache-Control."""
        if self.cache_control is not None:
            return self.cache_control.encode() or None
        if self.max_age is None:
            return None
        return b"public, max-age=%d" % self.max_age + (b", immutable" if self.immutable else b"")


class Caching(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: every request goes to the app")] = True


class Delivery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    compression: Annotated[Compression, Meta(description="answers made smaller on their way")] = Compression()
    sendfile: Annotated[Sendfile, Meta(description="files which the app names instead of sending them")] = Sendfile()
    static: Annotated[list[Folder], Meta(description="folders which are served without the app")] = field(
        default_factory=list
    )
    cache: Annotated[Caching, Meta(description="answers kept as their Cache-Control permits")] = Caching()


class DeliveryOverrides(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of Delivery, each of which may be left out."""

    compression: Compression | UnsetType = UNSET
    sendfile: Sendfile | UnsetType = UNSET
    static: list[Folder] | UnsetType = UNSET
    cache: Caching | UnsetType = UNSET


class Cache(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size: Annotated[Octets, Meta(description="memory for the answers of all tenants; 0: nothing is cached")] = 64 << 20
    item: Annotated[PositiveOctets, Meta(description="the largest body that is cached")] = 1 << 20


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    running: Annotated[
        int, Meta(ge=1, description="apps at the same time; the least recently used idle one makes room")
    ] = 20
    starting: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="apps being started at the same time, from spawn until ready; the others wait in line. "
             "Default: two for each core"),
    ] = None  # fmt: skip
    held: Annotated[
        int, Meta(ge=0, description="requests held by flyatc pause at the same time, for all tenants; 503 above")
    ] = 1000
    request_body: Annotated[Octets, Meta(description="largest request body, 413 above; 0: no limit")] = 0
    request_header: Annotated[PositiveOctets, Meta(description="largest request head, 431 above")] = 65536
    header_timeout: Annotated[
        Seconds, Meta(description="longest time for a request's head to arrive, 408 after; 0: none")
    ] = 30.0
    body_timeout: Annotated[Seconds, Meta(description="longest pause in a request's body, 408 after; 0: none")] = 60.0
    idle_timeout: Annotated[
        Seconds, Meta(description="a kept-alive connection without a request is closed after; 0: none")
    ] = 60.0
    write_timeout: Annotated[
        Seconds, Meta(description="longest time in which a visitor takes none of an answer; 0: none")
    ] = 300.0


class Logging(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto: text in colour on a terminal, else JSON lines")
    ] = "auto"
    requests: Annotated[bool, Meta(description="false: no line for each request")] = True
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least level of the daemon's own events")
    ] = "info"


class Listen(Struct, frozen=True):
    """Where to listen: ``3000``, ``127.0.0.1:3000``, ``[::1]:3000``. Without a host: all interfaces, IPv4 and IPv6."""

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """Raises ValueError with a sentence for people."""
        match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):)?([0-9]{1,5})", text.strip())
        if match is None or int(match[2]) > 65535:
            raise ValueError(f"{text!r} is not a place to listen: write 3000, 127.0.0.1:3000 or [::1]:3000")
        return cls(match[1].strip("[]") if match[1] else None, int(match[2]))

    def __str__(self) -> str:
        host = self.host or "*"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


MACHINE = re.compile(r"[0-9a-z]{8,20}")  # an id on Fly, where they have 14: it becomes a header and a DNS label
LEAST_REPLAY_CACHE = 10  # seconds; Fly's own limit for a replay which its proxy remembers
REGION = re.compile(r"[a-z][a-z0-9]{1,15}")  # on Fly they have 3


class MachineIdle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    after: Annotated[Seconds, Meta(description="without any visitor for so long")] = 900.0
    then: Annotated[
        Literal["none", "exit", "stop", "suspend"],
        Meta(description="what is done when all is saved. exit: end with 0. stop, suspend: Fly is asked to do so with "
             "this machine, and the next request for it wakes it (auto_start_machines); after a suspend sooner, with "
             "the local copies still there. Elsewhere than on Fly nothing is done"),
    ] = "none"  # fmt: skip


class Fly(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    metadata: Annotated[
        str | None,
        Meta(description="the key of machine metadata whose value is the user of that machine, such as customer_id: "
             "his requests go there, and users of '*' whom no machine has get 404. Without it whoever is asked first "
             "takes a user whom nobody has. $FLYATC_METADATA wins; where --user or $CUSTOMER_ID names the user of this "
             "machine, it is customer_id unless something else is said"),
    ] = None  # fmt: skip
    resolver: Annotated[
        Listen | None,
        Meta(
            description="the DNS server for names below .internal, as host:port; default: that of /etc/resolv.conf; "
            "$FLYATC_RESOLVER wins"
        ),
    ] = None
    private: Annotated[
        int,
        Meta(ge=0, le=65535, description="the port at which each machine listens for the others, on its own address of "
             "the private network only: requests whose body is larger than 1 MB, or of unknown length, come there, "
             "since Fly Proxy does not replay them. 0: they are refused, 413 and 411"),
    ] = 8790  # fmt: skip
    machines_most: Annotated[
        int, Meta(ge=1, description="users.'*'.provision: none is made while the app has so many machines, all counted")
    ] = 20
    machines_a_minute: Annotated[
        int, Meta(ge=1, description="users.'*'.provision: how many this machine may make in a minute")
    ] = 3


class Replay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    trust_app: Annotated[
        bool,
        Meta(description="true: an app's own fly-replay answers reach Fly Proxy, which then sends the visitor wherever "
             "they say, to any app of the organization; false: they are cut out"),
    ] = False  # fmt: skip
    timeout: Annotated[
        PositiveSeconds,
        Meta(description="how long Fly Proxy tries to reach the machine of a user, waking it included; then 503"),
    ] = 30.0
    cache: Annotated[
        Seconds,
        Meta(description="for how long Fly Proxy shall remember which machine serves a user, and not ask us; 10s or "
             "more; 0: not at all. Off by default, for a replay which is remembered has no timeout and no fallback: a "
             "machine that dies meanwhile is an empty 502 until the time is over, and up to 30 s more. Its hops are "
             "not counted, and the target is not told who sent the request. And who has moved is sent to his former "
             "machine once more from each of Fly's edges, until that machine has it forgotten. Worth it where machines "
             "are far apart and most requests reach the wrong one first. A replay is remembered only where others of "
             "that user to that machine have gone well just before, for longer than replay.timeout"),
    ] = 0.0  # fmt: skip
