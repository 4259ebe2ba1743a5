"""What the daemon tells its operators: the shapes of the JSON, for both sides. Times are RFC 3339 in UTC. Pure.

What control needs of the daemon. ``daemon.py`` implements it and hands it in.
"""

from typing import Protocol

from msgspec import Struct

from flyatc.databases.version_choice import Choice
from flyatc.kit.types import Progress
from flyatc.observe.counters import Counters
from flyatc.observe.journal import Journal
from flyatc.tenants.state import Status


class Daemon(Struct, frozen=True, kw_only=True):
    version: str
    pid: int
    started: str
    listen: str  # where visitors come: "*:3000"
    config: str  # the file, absolute
    running: int  # apps
    limit: int  # limits.running
    idle_at: str | None = None  # when machine_idle.then is done if no request comes
    idle_then: str = "none"  # machine_idle.then
    store: str | None = None  # why the store cannot be used yet, and no tenant can start; None: it can


class Closed(Struct, frozen=True, kw_only=True):
    """For maintenance."""

    scope: str | None  # an address or a user; None: everything
    message: str


class Paused(Struct, frozen=True, kw_only=True):
    scope: str | None
    since: str
    limit: float  # how many seconds a request is held at most
    waiting: int  # requests, held by this pause


class Bad(Struct, frozen=True, kw_only=True):
    """A database of the store which the drill could not restore. ``state``: damaged, or unknown (it was not tried)."""

    tenant: str
    database: str
    state: str
    version: str | None
    why: str
    at: str


class Verified(Struct, frozen=True, kw_only=True):
    """By storage.verify. ``first``: of the one which was verified the longest ago."""

    databases: int
    bad: list[Bad]
    damaged: int = 0  # copies found damaged since the daemon started
    healed: int = 0  # of those: replaced by a new copy
    first: str | None
    last: str | None


class Overview(Struct, frozen=True, kw_only=True):
    tenants: list[Status]
    daemon: Daemon
    closed: list[Closed] = []
    paused: list[Paused] = []
    verified: Verified | None = None  # None: storage.verify is off


class Reloaded(Struct, frozen=True, kw_only=True):
    """Addresses of tenants; ``restart``: settings which wait for a restart of the daemon (``server.listen``)."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    restart: list[str] = []


class Version(Struct, frozen=True, kw_only=True):
    """One snapshot in the store."""

    database: str
    id: str  # "000001-000000042"
    saved: str
    size: int | None  # octets of the database; None: unknown
    compressed: int  # octets in the store
    current: bool


class History(Struct, frozen=True, kw_only=True):
    versions: list[Version]  # newest first, database by database
    orphans: list[str] = []  # folders with what was set aside


class Step(Struct, frozen=True):
    """A line of the answer to backup and restore: how far one step has come, in octets."""

    step: str
    done: int
    total: int


class Explanation(Struct, frozen=True, kw_only=True):
    """Whose a request is, where it would be served, and why."""

    path: str
    outcome: str  # "here", "redirect" or "refuse"
    why: str
    status: int | None = None  # of our own answer, where we give one
    location: str | None = None
    tenant: str | None = None  # its address
    user: str | None = None
    name: str | None = None  # of the tenant below the user; "" where the user is the tenant
    prefix: str | None = None
    app_path: str | None = None  # what the app is asked for
    strip_prefix: bool = False
    by_pattern: bool = False  # the user is not listed, '*' admits him
    pin: str | None = None  # the region or machine which the file names for the user, on Fly
    health: bool = False  # the path of the app's own readiness: no visit, it wakes nobody
    state: str | None = None  # None: not known, no daemon was asked


class Switched(Struct, frozen=True):
    """Maintenance: whether it was otherwise before."""

    changed: bool


LONGEST_HOLD = 3600.0  # seconds; who waits longer is no visitor


class Drained(Struct, frozen=True):
    """Of what is paused: requests which the app still has, though the limit is over, and tunnels, which go on."""

    requests: int
    tunnels: int


class Resumed(Struct, frozen=True):
    """``released``: how many requests were held; None: it was not paused."""

    released: int | None


class Cleared(Struct, frozen=True):
    """How many answers the cache has dropped."""

    answers: int


class Operations(Protocol):
    """Called on the loop. An operator who leaves cancels what he asked for. Whatever cannot be done is a FlyatcError;
    an address that names nobody is tenants.errors.NoSuchTenant."""

    @property
    def journal(self) -> Journal: ...

    @property
    def counters(self) -> Counters: ...

    @property
    def stopping(self) -> bool:
        """Whether the daemon is on its way out."""

    def status(self) -> Overview:
        """Every configured tenant, and those of '*' that live."""

    def explain(self, url: str) -> Explanation:
        """``control.explain.explain`` by the present configuration, with the tenant's state."""

    async def start(self, address: str) -> None:
        """A user alone: all his tenants. Returns when they are ready."""

    async def stop(self, address: str) -> None:
        """Returns when they are saved and stopped."""

    async def restart(self, address: str) -> None: ...

    async def release(self, user: str, to: str | None, *, remove: bool = False) -> None:
        """All his tenants are saved and stopped, and he is given back: to a machine of our app, or whoever comes.
        ``remove``: to nobody. Goes on, should the operator leave."""

    async def reload(self) -> Reloaded:
        """Reads the file again. Raises ConfigError; then nothing has changed."""

    async def maintain(self, address: str | None, message: str | None, *, closed: bool) -> bool:
        """Closes for maintenance, or opens again; None: everything. Whether that changes anything."""

    async def pause(self, address: str | None, limit: float) -> Drained:
        """Holds new requests, ``limit`` seconds each; None: all. Returns when the apps have none any more, or the limit
        is over. Who leaves before that leaves it paused."""

    async def resume(self, address: str | None) -> int | None:
        """None: all pauses. How many requests were released; None: it was not paused."""

    async def clear_cache(self, address: str | None) -> int:
        """A user alone: all his tenants; None: everything. How many answers there were."""

    async def backup(self, address: str, database: str | None, progress: Progress) -> None:
        """Saves now what has changed; None: all databases."""

    async def restore(self, address: str, database: str | None, choice: Choice, progress: Progress) -> None:
        """Puts what was chosen in place of the local copy; a running app is stopped meanwhile."""

    async def history(self, address: str, database: str | None) -> History: ...
