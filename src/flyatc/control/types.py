"""Types of the control API, for both sides: JSON shapes, and the Operations protocol which the daemon implements.

Times are RFC 3339 in UTC. Pure.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from flyatc.cost.usage import Usage
from flyatc.databases.decisions.version_choice import Choice
from flyatc.kit.types import Progress
from flyatc.observe.activity import Slot
from flyatc.observe.counters import Counters
from flyatc.tenants.state import Status

if TYPE_CHECKING:
    from flyatc.observe.log import Journal  # it imports asyncio, which commands need not load


def socket_of(data: str | Path) -> Path:
    """Path of the control socket. ``data``: server.data, absolute."""
    return Path(data) / ".flyatc" / "control.sock"


class Daemon(Struct, frozen=True, kw_only=True):
    """The daemon itself."""

    version: str
    pid: int
    started: str
    listen: str  # address for clients: "*:3000"
    config: str  # the file, absolute
    running: int  # apps
    limit: int  # limits.running
    idle_at: str | None = None  # time of machine_idle.then if no request comes
    idle_then: str = "none"  # machine_idle.then
    not_separated: list[str] = []  # what an app can do to other tenants on this machine, with app.isolation of app:
    store: str | None = None  # why the store cannot be used and no tenant can start; None: it can


class Closed(Struct, frozen=True, kw_only=True):
    """A scope closed for maintenance."""

    scope: str | None  # an address or a user; None: everything
    message: str


class Paused(Struct, frozen=True, kw_only=True):
    """A paused scope."""

    scope: str | None
    since: str
    limit: float  # longest wait of a request, in seconds
    waiting: int  # requests held by this pause


class Bad(Struct, frozen=True, kw_only=True):
    """A database in the store without a successful test restore. ``state``: damaged, or unknown (not tested)."""

    tenant: str
    database: str
    state: str
    version: str | None
    why: str
    at: str


class Verified(Struct, frozen=True, kw_only=True):
    """Results of storage.verify. ``first``, ``last``: times of the oldest and the newest test."""

    databases: int
    bad: list[Bad]
    damaged: int = 0  # copies found damaged since the daemon started
    healed: int = 0  # of those: replaced by a new copy
    first: str | None
    last: str | None


class Overview(Struct, frozen=True, kw_only=True):
    """The response to GET /status."""

    tenants: list[Status]
    daemon: Daemon
    closed: list[Closed] = []
    paused: list[Paused] = []
    verified: Verified | None = None  # None: storage.verify is off


class MachineStatus(Struct, frozen=True, kw_only=True):
    """A machine as it sees itself, for the dashboards of the others. ``memory``, ``memory_total``: bytes in use and in
    all; 0: not known. ``users``: those that it holds. ``tenants``: those that run or need attention, at most so many
    that the other machine reads them; ``omitted``: how many more there are."""

    machine: str
    region: str
    daemon: Daemon
    memory: int = 0
    memory_total: int = 0
    users: list[str] = []
    tenants: list[Status] = []
    omitted: int = 0
    closed: list[Closed] = []
    paused: list[Paused] = []
    verified: Verified | None = None


class Reloaded(Struct, frozen=True, kw_only=True):
    """Addresses of tenants. ``restart``: settings which need a restart of the daemon (``server.listen``)."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    restart: list[str] = []


class Version(Struct, frozen=True, kw_only=True):
    """One snapshot in the store."""

    database: str
    id: str  # "000001-000000042"
    saved: str
    size: int | None  # bytes of the database; None: unknown
    compressed: int  # bytes in the store; of a folder: those that this save has added
    current: bool
    beside: dict[str, str] = {}  # versions saved with it: of folders or databases; "": not saved


class History(Struct, frozen=True, kw_only=True):
    """Versions and orphans of a tenant."""

    versions: list[Version]  # newest first, database by database
    orphans: list[str] = []  # folders with displaced copies
    notes: list[str] = []  # folders and databases whose current versions do not belong together


class LocalDatabase(Struct, frozen=True):
    """A database on this machine. ``size``: bytes of its file, with the WAL; None: there is no file."""

    name: str
    size: int | None


class TenantDetails(Struct, frozen=True, kw_only=True):
    """The response to GET /tenant. ``path``: of its URLs. ``tunnels``: WebSockets that are open now, of
    ``status.requests``. ``activity``: the five-minute slots of the last day in which it was active here, in order; the
    last one may still be open. ``files``: folders of files that are saved."""

    status: Status
    path: str
    tunnels: int
    activity: list[Slot]
    databases: list[LocalDatabase]
    files: list[str]


class Step(Struct, frozen=True):
    """A line of the response to backup and restore: progress of one step, in bytes."""

    step: str
    done: int
    total: int


class Explanation(Struct, frozen=True, kw_only=True):
    """Routing of a URL: user, tenant, outcome and reason."""

    path: str
    outcome: str  # "here", "redirect" or "refuse"
    why: str
    status: int | None = None  # of flyatc's own response, if any
    location: str | None = None
    tenant: str | None = None  # its address
    user: str | None = None
    name: str | None = None  # of the tenant below the user; "" if the user is the tenant
    prefix: str | None = None
    app_path: str | None = None  # path of the request to the app
    strip_prefix: bool = False
    by_pattern: bool = False  # the user is not listed, but matches '*'
    pin: str | None = None  # region or machine of the user in the file, on Fly
    health: bool = False  # the app's readiness path, which starts no app
    state: str | None = None  # None: unknown, no daemon was asked


class Address(Struct, frozen=True):
    """Response to /address. ``address``: what a pasted text means (explain.address); None: nothing."""

    address: str | None


class Tenants(Struct, frozen=True):
    """Response to GET /tenants: the addresses of those with data, here or in the store."""

    tenants: list[str]


class Switched(Struct, frozen=True):
    """Response to maintenance. ``changed``: False if it was so already."""

    changed: bool


LONGEST_HOLD = 3600.0  # seconds; limit of a pause


class Drained(Struct, frozen=True):
    """In flight when ``pause`` returns: requests which exceeded the limit, and tunnels, which go on."""

    requests: int
    tunnels: int


class Resumed(Struct, frozen=True):
    """``released``: number of held requests; None: it was not paused."""

    released: int | None


class Cleared(Struct, frozen=True):
    """``answers``: number of responses dropped from the cache."""

    answers: int


class Operations(Protocol):
    """Operations of the daemon, called on the loop. If the operator disconnects, the call is cancelled. Raises
    FlyatcError; tenants.errors.NoSuchTenant for an unknown address."""

    @property
    def journal(self) -> "Journal": ...

    @property
    def counters(self) -> Counters: ...

    @property
    def stopping(self) -> bool:
        """True while the daemon shuts down."""

    def status(self, *, seen: bool = False) -> Overview:
        """Every configured tenant, and those of '*' which exist. ``seen``: without the configured ones that nothing has
        asked for since the daemon started, which are stopped; for who looks each second, as there may be very many."""

    def explain(self, url: str) -> Explanation:
        """``control.route_explanation.explain`` with the present configuration and the tenant's state."""

    def address(self, pasted: str) -> str | None:
        """``control.route_explanation.address`` with the present configuration."""

    async def with_data(self, user: str | None) -> list[str]:
        """Addresses of the tenants that have data, here or in the store; ``user`` None: of all."""

    def tenant(self, address: str) -> TenantDetails:
        """One tenant, as this machine knows it."""

    async def usage(self, days: int) -> Usage:
        """The use of this machine by its users in the last ``days``."""

    async def start(self, address: str) -> None:
        """Start a tenant, or all of a user. Returns when they are ready."""

    async def stop(self, address: str) -> None:
        """Stop a tenant, or all of a user. Returns when they are saved and stopped."""

    async def restart(self, address: str) -> None: ...

    async def release(self, user: str, to: str | None, *, remove: bool = False) -> None:
        """Save and stop all tenants of a user and release the lease, for the machine ``to`` of our app, or any.
        ``remove``: for none. Continues if the operator disconnects."""

    async def reload(self) -> Reloaded:
        """Read the file again. Raises ConfigError; then nothing has changed."""

    async def maintain(self, address: str | None, message: str | None, *, closed: bool) -> bool:
        """Close for maintenance, or open again; ``address`` None: everything. True if that changed anything."""

    async def pause(self, address: str | None, limit: float) -> Drained:
        """Hold new requests, ``limit`` seconds each; ``address`` None: all. Returns when the apps have no more requests
        or the limit is over. If the operator disconnects before that, the pause stays."""

    async def resume(self, address: str | None) -> int | None:
        """End a pause; ``address`` None: all. Returns the number of released requests; None: it was not paused."""

    async def clear_cache(self, address: str | None) -> int:
        """Drop cached responses of a tenant, of all of a user, or (None) all. Returns their number."""

    async def backup(self, address: str, database: str | None, progress: Progress) -> None:
        """Save what has changed; ``database`` None: all."""

    async def restore(self, address: str, database: str | None, choice: Choice, progress: Progress) -> list[str]:
        """Replace the local copy by the chosen version; a running app is stopped meanwhile. Return a sentence on each
        folder of files."""

    async def history(self, address: str, database: str | None) -> History: ...

    def copy(
        self, address: str, database: str, choice: Choice, progress: Progress
    ) -> AbstractAsyncContextManager[Path]:
        """Make a checked copy of a database, which is removed on exit: of its newest content, which a running app may
        be changing meanwhile, or of a version of the store. Nothing else is changed."""
