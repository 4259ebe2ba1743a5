"""Sections of the schema: delivery, cache, limits, log, server, machine_idle, fly, replay; their field types. Frozen.

``extra["unit"]`` marks durations and sizes, which the file may write with a unit (read by config.parse).
"""

import re
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

Seconds = Annotated[float, Meta(ge=0, description="a duration: 500ms, 60s, 5m, 1h30m", extra={"unit": "seconds"})]
PositiveSeconds = Annotated[float, Meta(gt=0, description="a duration above 0", extra={"unit": "seconds"})]
Size = Annotated[int, Meta(ge=0, description="a size: 512, 64KB, 10MB", extra={"unit": "bytes"})]
Memory = Annotated[int, Meta(ge=1 << 20, description="a size of 1MB or more", extra={"unit": "bytes"})]
PositiveSize = Annotated[int, Meta(gt=0, description="a size above 0", extra={"unit": "bytes"})]
Cores = Annotated[float, Meta(gt=0, description="a number of cores above 0: 0.5, 2")]

Isolation = Literal["auto", "user", "landlock", "strict", "off"]  # see docs/isolation.md
Coding = Literal["zstd", "br", "gzip"]
CacheMode = Literal["assets", "rfc"]

MOST_JITTER = 65_533  # bytes: the limit of gzip's comment field

_PLACE = re.compile(r"(?:/[^/?#%\\\x00-\x20\x7f]+)*/?")
_VALUE = re.compile(r"[\t -~]*")


class Compression(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: bodies are sent as the app made them")] = True
    min_size: Annotated[Size, Meta(description="smaller bodies are not compressed, if the size is known")] = 1024
    codings: Annotated[
        list[Coding], Meta(description="codings offered to clients; of those that a client prefers equally, the first")
    ] = field(default_factory=lambda: ["zstd", "br", "gzip"])
    jitter: Annotated[
        int, Meta(ge=0, le=MOST_JITTER, description="most bytes of padding per body, against BREACH; 0: none")
    ] = 32
    disable_on_auth: Annotated[
        bool, Meta(description="true: no compression with cookies, Authorization, or private responses")
    ] = False


class Sendfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="send the file that the app names in X-Sendfile or X-Accel-Redirect")] = (
        True
    )
    roots: Annotated[
        list[str],
        Meta(
            description="folders whose files may be sent, relative to this file, placeholders as in env; "
            "without it: the app's directory and the tenant's data"
        ),
    ] = field(default_factory=list)


class Folder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry of ``static:``. The folder with the longest matching path is tried first."""

    path: Annotated[str, Meta(description="the URL path below the tenant's prefix: /assets, or / for all")]
    folder: Annotated[
        str,
        Meta(
            description="the folder; relative to the app's directory. Names that begin with a dot and source code "
            "(.php, .rb, .py, .erb, .jsp …) are never sent"
        ),
    ]
    max_age: Annotated[
        Seconds | None, Meta(description="sends Cache-Control: public, max-age=…; null: no such header")
    ] = None
    immutable: Annotated[bool, Meta(description="with max_age: names with a digest, whose content never changes")] = (
        False
    )
    cache_control: Annotated[str | None, Meta(description="the complete header instead of max_age and immutable")] = (
        None
    )
    index: Annotated[list[str], Meta(description="files to send for a folder: the first that exists; []: none")] = (
        field(default_factory=lambda: ["index.html"])
    )
    precompressed: Annotated[bool, Meta(description="send app.css.br, .zst or .gz if it exists beside app.css")] = True
    fallthrough: Annotated[bool, Meta(description="requests without a file go to the app; false: 404")] = True

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not _PLACE.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is not a path: write / or /assets, without % and spaces")
        if self.cache_control is not None and not _VALUE.fullmatch(self.cache_control):
            raise ValueError(f"{self.cache_control!r} cannot be a header value")
        for name in self.index:
            if "/" in name or name.startswith(".") or not name:
                raise ValueError(f"{name!r} is not the name of an index file")

    @property
    def header(self) -> bytes | None:
        """The value of Cache-Control, or None."""
        if self.cache_control is not None:
            return self.cache_control.encode() or None
        if self.max_age is None:
            return None
        return b"public, max-age=%d" % self.max_age + (b", immutable" if self.immutable else b"")


class Caching(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: every request goes to the app")] = True
    mode: Annotated[
        CacheMode,
        Meta(
            description="rfc: all that RFC 9111 permits; assets: only what the app says may be stored, and no error "
            "but 404 and 410; see http.md"
        ),
    ] = "assets"


class Auth(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    users: Annotated[
        str | list[str],
        Meta(
            description="a file as htpasswd writes it, relative to this file, read again when it changes; or its "
            "lines, NAME:HASH. Hashes: bcrypt (htpasswd -B), argon2, apr1"
        ),
    ]
    realm: Annotated[str, Meta(description="what browsers show when they ask for the password")] = "Restricted"
    public: Annotated[
        list[str], Meta(description="paths below the tenant's prefix that need no login, such as /assets, /webhooks")
    ] = field(default_factory=list)


class Delivery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    compression: Annotated[Compression, Meta(description="compression of responses")] = Compression()
    sendfile: Annotated[Sendfile, Meta(description="files that the app names instead of sending them")] = Sendfile()
    static: Annotated[list[Folder], Meta(description="folders served without the app")] = field(default_factory=list)
    cache: Annotated[Caching, Meta(description="responses cached as their Cache-Control permits")] = Caching()


class DeliveryOverrides(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of Delivery, all optional."""

    compression: Compression | UnsetType = UNSET
    sendfile: Sendfile | UnsetType = UNSET
    static: list[Folder] | UnsetType = UNSET
    cache: Caching | UnsetType = UNSET


class Cache(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size: Annotated[Size, Meta(description="memory for the cached responses of all tenants; 0: no caching")] = 64 << 20
    item: Annotated[PositiveSize, Meta(description="the largest body that is cached")] = 1 << 20


class Storage(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    url: Annotated[
        str,
        Meta(description="s3://BUCKET/PREFIX or file:FOLDER, relative to this file; without it s3://$BUCKET_NAME if "
             "that is set, else file:./store. Credentials, endpoint and region come from AWS_* in the environment"),
    ] = ""  # fmt: skip
    mode: Annotated[
        Literal["snapshot", "litestream", "none"],
        Meta(description="snapshot: whole databases, at stop and at intervals; litestream: streamed while running, at "
             "most about a second behind; none: local only"),
    ] = "snapshot"  # fmt: skip
    interval: Annotated[
        Seconds,
        Meta(description="snapshot mode, and app.files in both: also while running, if something changed; 0: at stop"),
    ] = 60.0
    keep: Annotated[
        int, Meta(ge=1, description="how many snapshots of a database, and saves of a folder, are kept")
    ] = 24
    files_most: Annotated[
        int, Meta(ge=1, le=300_000, description="how many files and folders a folder of app.files may have")
    ] = 100_000
    files_size: Annotated[Size, Meta(description="how large a folder of app.files may be in total")] = 20 << 30
    verify: Annotated[
        Seconds | None,
        Meta(description="how often each database in the store is restored into a temporary folder and checked, in the "
             "background; without it: every 24h, for tenants that run that long; 0: only by flyatc verify. A damaged "
             "database is logged as an error; if its tenant runs, a new copy is saved immediately"),
    ] = None  # fmt: skip
    key: Annotated[
        str | None,
        Meta(description="the key in the bucket under which another program keeps a database as one object, "
             "with {user} {tenant} {database}: read on first use, never written or removed"),
    ] = None  # fmt: skip
    session_ttl: Annotated[
        float,
        Meta(ge=10, le=600, extra={"unit": "seconds"},
             description="how long a machine without heartbeats keeps the leases of its users; it writes a "
             "heartbeat to the store three times in this period"),
    ] = 30.0  # fmt: skip
    large: Annotated[
        Size, Meta(description="litestream mode: larger databases are verified one at a time at stop; docs/deploy.md")
    ] = 256 << 20
    litestream: Annotated[
        str | None,
        Meta(description="litestream mode: the program, 0.5.17 or newer; without it: found on PATH, or installed by "
             "pip install flyatc[litestream]"),
    ] = None  # fmt: skip
    replica: Annotated[
        str | None,
        Meta(description="litestream mode: where another litestream replicated our databases to, as s3://BUCKET/PATH, "
             "file:FOLDER or a key of the store, with {user} {tenant} {database}. Read on first use; never written"),
    ] = None  # fmt: skip


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    running: Annotated[
        int,
        Meta(ge=1, description="apps running at the same time; above it, the least recently used idle app is stopped"),
    ] = 20
    starting: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="apps starting at the same time, from spawn until ready; others wait. "
             "Default: two per core"),
    ] = None  # fmt: skip
    held: Annotated[
        int, Meta(ge=0, description="paused requests (flyatc pause) at the same time, for all tenants; 503 above")
    ] = 1000
    request_body: Annotated[Size, Meta(description="largest request body, 413 above; 0: no limit")] = 0
    request_header: Annotated[PositiveSize, Meta(description="largest request head, 431 above")] = 65536
    buffers: Annotated[
        PositiveSize | None,
        Meta(description="memory for unfinished heads, bodies that wait for an app, and responses that clients do not "
             "read, of all connections; above it, those that hold most for longest are closed. Default: an eighth of "
             "the machine's memory, at least 32MB"),
    ] = None  # fmt: skip
    header_timeout: Annotated[
        Seconds, Meta(description="longest time for a request's head to arrive, 408 after; 0: none")
    ] = 30.0
    body_timeout: Annotated[Seconds, Meta(description="longest pause in a request's body, 408 after; 0: none")] = 60.0
    idle_timeout: Annotated[
        Seconds, Meta(description="a keep-alive connection without a request is closed after; 0: none")
    ] = 60.0
    write_timeout: Annotated[
        Seconds, Meta(description="longest time in which a client reads none of a response; 0: none")
    ] = 300.0


class Logging(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto: text in colour on a terminal, else JSON lines")
    ] = "auto"
    requests: Annotated[bool, Meta(description="false: no line per request")] = True
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the lowest level of daemon events")
    ] = "info"


def segment_of(name: str) -> str:
    """Return the name of a tenant or database as one path segment, for folders and keys. No name may contain ``~``."""
    return name.replace("/", "~") or "~"


def name_of(segment: str) -> str:
    """Return the name of a segment; ``/`` for that of an empty name."""
    return segment.replace("~", "/")


class Listen(Struct, frozen=True):
    """An address: ``3000``, ``127.0.0.1:3000``, ``[::1]:3000``. Without a host: all interfaces, IPv4 and IPv6."""

    host: str | None
    port: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """Parse an address. Raises ValueError with a sentence for people."""
        match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):)?([0-9]{1,5})", text.strip())
        if match is None or int(match[2]) > 65535:
            raise ValueError(f"{text!r} is not an address to listen at: write 3000, 127.0.0.1:3000 or [::1]:3000")
        return cls(match[1].strip("[]") if match[1] else None, int(match[2]))

    def __str__(self) -> str:
        host = self.host or "*"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


MACHINE = re.compile(r"[0-9a-z]{8,20}")  # an id, 14 characters on Fly; it becomes a header and a DNS label
LEAST_REPLAY_CACHE = 10  # seconds; Fly's own lower limit for cached replays
REGION = re.compile(r"[a-z][a-z0-9]{1,15}")  # 3 characters on Fly


class MachineIdle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    after: Annotated[Seconds, Meta(description="time without any request")] = 900.0
    then: Annotated[
        Literal["none", "exit", "stop", "suspend"],
        Meta(description="action when all is saved. exit: exit with 0. stop, suspend: by Fly's API; the next "
             "request for this machine wakes it (auto_start_machines), faster after a suspend, with the local copies "
             "still there. stop and suspend have no effect outside Fly"),
    ] = "none"  # fmt: skip


class Fly(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    metadata: Annotated[
        str | None,
        Meta(description="the key of machine metadata whose value is the user of that machine, such as customer_id: "
             "the user's requests go there, and users of '*' without a machine get 404. Without it, the first machine "
             "that gets a request takes a user without a lease. $FLYATC_METADATA wins. The default is customer_id if "
             "--user or $CUSTOMER_ID names the user of this machine"),
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
        Meta(ge=0, le=65535, description="the port on which each machine listens for the others, only on its address "
             "in the private network: for requests with a body larger than 1 MB or of unknown length, "
             "which Fly Proxy does not replay. 0: they are refused, 413 and 411"),
    ] = 8790  # fmt: skip
    machines_most: Annotated[
        int,
        Meta(ge=1, description="users.'*'.provision: no machine is created if the app already has this many in total"),
    ] = 20
    machines_a_minute: Annotated[
        int, Meta(ge=1, description="users.'*'.provision: how many machines this machine may create in a minute")
    ] = 3


class Replay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    trust_app: Annotated[
        bool,
        Meta(description="true: fly-replay headers of the app's responses reach Fly Proxy, which then replays the "
             "request anywhere, to any app of the organization; false: they are removed"),
    ] = False  # fmt: skip
    timeout: Annotated[
        PositiveSeconds,
        Meta(description="how long Fly Proxy tries to reach the machine of a user, including its wake-up; then 503"),
    ] = 30.0
    cache: Annotated[
        Seconds,
        Meta(description="how long Fly Proxy caches which machine serves a user; 10s or more; 0: no caching. Off by "
             "default, since a cached replay has no timeout and no fallback: if the machine dies, requests get an "
             "empty 502 until the time is over, and up to 30 s more. Its hops are not counted, and the target does not "
             "learn the sender. After a move, each of Fly's edges sends the user's requests to the old machine once "
             "more, until that machine invalidates the entry. Worthwhile if machines are far apart and most requests "
             "reach the wrong one first. A replay is cached only if others of that user to that machine have recently "
             "succeeded, for longer than replay.timeout"),
    ] = 0.0  # fmt: skip
