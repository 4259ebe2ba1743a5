"""Schema of tenants.yaml and the resolved configuration. Frozen; each field has one default, unit and sentence.

Two families: the *file* as written (``File`` and its sections), and the *resolved* form (``Config``, ``Tenant``), in
which every tenant has its complete ``App`` and every path is absolute.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field, structs

from flyatc.config import database_names
from flyatc.config.schema_sections import (
    Auth,
    Cache,
    Cores,
    Delivery,
    Fly,
    Isolation,
    MachineIdle,
    Memory,
    PositiveSeconds,
    Replay,
    Seconds,
    name_of,
    segment_of,
)
from flyatc.config.schema_sections import Limits as Limits
from flyatc.config.schema_sections import Logging as Logging
from flyatc.config.schema_sections import Storage as Storage
from flyatc.config.schema_server import Dashboard as Dashboard
from flyatc.config.schema_server import Server as Server

ANYONE = "*"  # the entry of users who are not listed
USER_VARIABLE = "CUSTOMER_ID"  # names the user for js-sqlite-in-tigris; in lower case, the metadata key
USER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # the whole segment: it becomes a folder, a key and a DNS label


class App(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to run one tenant. ``app:`` at the top applies to all; users and tenants may override any field."""

    command: Annotated[
        list[str],
        Meta(
            description="the program and its arguments; {port} {user} {tenant} {prefix} {data}; ${NAME} or ${NAME:-x}"
        ),
    ] = field(default_factory=list)
    directory: Annotated[str, Meta(description="where the command runs; relative to this file")] = "."
    env: Annotated[
        dict[str, str | None],
        Meta(
            description="added to the app's environment; the same placeholders, and {secret} and {secret.base64}: "
            "secrets of this tenant; null removes a variable"
        ),
    ] = field(default_factory=dict)
    before_start: Annotated[
        list[str | list[str]],
        Meta(
            description="a command, or a list of commands, run after the restore and before the app, on the machine "
            "that owns the user; same directory, environment and placeholders; if one fails, the app is not started"
        ),
    ] = field(default_factory=list)
    before_start_timeout: Annotated[
        PositiveSeconds, Meta(description="longest time of all before_start commands of one start")
    ] = 300.0
    ready: Annotated[
        str | None,
        Meta(
            description="a path requested until its status is below 500: {prefix}/up, with strip_prefix also /up; "
            "without it: the port accepts"
        ),
    ] = None
    ready_host: Annotated[
        str,
        Meta(
            description="the Host header of that request, for an app that refuses other hosts (Rails' "
            "config.hosts, Django's ALLOWED_HOSTS); the same placeholders"
        ),
    ] = "127.0.0.1"
    verify_port: Annotated[
        bool,
        Meta(description="only a process of this app may listen on its port; false: any may (docker run, a service)"),
    ] = True
    start_timeout: Annotated[
        PositiveSeconds,
        Meta(description="longest time from the first request to ready, without the wait for limits.starting"),
    ] = 60.0
    waiting_page_after: Annotated[
        Seconds,
        Meta(description="how long a browser waits for a cold start before it is shown a page that reloads itself"),
    ] = 5.0
    response_timeout: Annotated[
        Seconds, Meta(description="longest wait for the head of a response, then 504; 0: none")
    ] = 0.0
    idle: Annotated[
        Seconds,
        Meta(
            description="after so long without requests and work (idle_counts), the app is saved and stopped; 0: never"
        ),
    ] = 300.0
    idle_counts: Annotated[
        list[Literal["requests", "cpu", "writes", "sleeps"]],
        Meta(
            description="what keeps an app running: requests always; cpu: its processes use more than 1% of a core; "
            "writes: its databases change; sleeps: a thread or process that began during a request sleeps for a time"
        ),
    ] = field(default_factory=lambda: ["requests", "cpu", "writes", "sleeps"])
    idle_most: Annotated[
        Seconds,
        Meta(description="after so long without requests, the app is stopped even if it works; 0: no limit"),
    ] = 3600.0
    drain_timeout: Annotated[Seconds, Meta(description="how long requests in flight may take when the app stops")] = (
        10.0
    )
    stop_grace: Annotated[Seconds, Meta(description="from SIGTERM to SIGKILL")] = 10.0
    isolation: Annotated[
        Isolation,
        Meta(description="how apps are kept apart. auto: a user id for each tenant if flyatc runs as root and the app "
             "can be reached with it, and Landlock if the kernel has it, but for the app's directory; user: no start "
             "without the user id; landlock: no user id, no start without Landlock; strict: no start without both, and "
             "/tmp is closed; off: nothing"),
    ] = "auto"  # fmt: skip
    writable: Annotated[
        list[str],
        Meta(description="with isolation: folders that the app may write beside its data; absolute, or relative to its "
             "directory, which is read-only otherwise, except with auto. All tenants share them. Those that do not "
             "exist are skipped"),
    ] = field(default_factory=lambda: ["tmp", "log"])  # fmt: skip
    memory: Annotated[
        Memory | None, Meta(description="most memory of the app; without cgroups of each of its processes")
    ] = None
    cpu: Annotated[
        Cores | None, Meta(description="most CPU of the app, in cores; without cgroups a whole number of cores")
    ] = None
    strip_prefix: Annotated[
        bool, Meta(description="true: the app sees the path below its prefix, and X-Forwarded-Prefix")
    ] = False
    slash: Annotated[
        bool, Meta(description="true: /bellevue is redirected to /bellevue/; false: the app gets both addresses")
    ] = True
    cookies: Annotated[
        Literal["tenant", "keep"],
        Meta(
            description="tenant: a cookie of the app is for this tenant only: a Path outside of its prefix, or none, "
            "is moved below it; keep: cookies pass unchanged"
        ),
    ] = "tenant"
    redirects: Annotated[
        Literal["tenant", "keep"],
        Meta(
            description="tenant: with strip_prefix, a Location, Content-Location or Refresh to a path of the app gets "
            "the prefix; keep: they pass unchanged"
        ),
    ] = "tenant"
    auth: Annotated[
        Auth | None,
        Meta(description="HTTP Basic authentication before anything of the tenant is sent or started; the app gets the "
             "name in X-Remote-User; null: none; see below"),
    ] = None  # fmt: skip
    databases: Annotated[
        list[str],
        Meta(
            description="SQLite files, named below {data}; patterns such as *.sqlite3, whose * matches no slash; "
            "!NAME or !PATTERN: not saved on purpose"
        ),
    ] = field(default_factory=list)
    files: Annotated[
        list[str],
        Meta(description="folders below {data} that are saved and restored with the databases, such as uploads"),
    ] = field(default_factory=list)
    seed: Annotated[
        str | dict[str, str] | None,
        Meta(description="what to copy if the store is known to have nothing: the path of one database, or a path for "
             "each database and each folder of files by its name"),
    ] = None  # fmt: skip
    pages: Annotated[
        dict[str, str],
        Meta(description="HTML files for flyatc's own responses, by status (404, 502 …) or 'waiting'"),
    ] = field(default_factory=dict)
    delivery: Annotated[Delivery, Meta(description="how responses and files are sent to the client; see below")] = (
        Delivery()
    )


# --- resolved -----------------------------------------------------------------------------------------------------


class Tenant(Struct, frozen=True, kw_only=True):
    """One tenant, complete. If old and new value are equal, no restart is needed."""

    user: str  # "bellevue"
    name: str  # "2025/winter"; "" if the user is the tenant
    prefix: str  # "/customers/bellevue/2025/winter": of all its paths, without a trailing slash
    data: Path  # absolute, not shared with any other tenant
    patterns: tuple[str, ...] = ()  # of databases: see database_names
    app: App  # complete; databases has plain names only; directory, seed and pages are absolute paths

    @property
    def home(self) -> str:
        """The path prefix of the user: ``/customers/bellevue``."""
        return self.prefix.removesuffix(f"/{self.name}") if self.name else self.prefix

    @property
    def address(self) -> str:
        """User and name: ``bellevue/2025/winter``."""
        return f"{self.user}/{self.name}" if self.name else self.user

    @property
    def key(self) -> str:
        """The name as one path segment: ``2025~winter``, ``~`` for no name."""
        return segment_of(self.name)


class Pattern(Struct, frozen=True, kw_only=True):
    """The entry '*': users who are not listed."""

    match: str  # see config.linear_regex
    app: App
    tenants: tuple[tuple[str, App], ...]  # (name, app); (("", app),) if the user is the tenant
    provision: bool = False  # on Fly: a user without a machine gets one


class Pin(Struct, frozen=True, kw_only=True):
    """The region or the machine that serves a user, as set in tenants.yaml."""

    region: str | None = None
    machine: str | None = None

    def __str__(self) -> str:
        return f"machine {self.machine}" if self.machine is not None else f"region {self.region}"


class Config(Struct, frozen=True, kw_only=True):
    path: Path  # the file it was read from
    server: Server  # data is absolute
    storage: Storage  # url is file:/absolute or s3://bucket[/prefix]
    limits: Limits
    cache: Cache
    machine_idle: MachineIdle
    log: Logging
    pages: dict[str, str]  # of app: at the top; for responses without a tenant
    tenants: dict[str, Tenant]  # by address, in the file's order
    pattern: Pattern | None
    users: frozenset[str] = frozenset()  # those listed by name: '*' does not apply to them
    fly: Fly = field(default_factory=Fly)
    replay: Replay = field(default_factory=Replay)
    pins: dict[str, Pin] = field(default_factory=dict)  # by user; '*' for users not listed
    dashboard: Dashboard | None = None  # with the password itself, or its hash; None: off
    only: str | None = None  # the only user served by this machine, from the environment; None: all

    def serves(self, user: str) -> bool:
        """Return whether this machine may serve the user."""
        return self.only is None or self.only == user

    def pin_of(self, user: str) -> Pin | None:
        return self.pins.get(user if user in self.users else ANYONE)

    def tenant_of_pattern(self, user: str, name: str) -> Tenant | None:
        """Return the tenant of '*' for this user and name, or None if '*' does not match. Invalid names never match."""
        if self.pattern is None or not self.is_of_pattern(user):
            return None
        app = dict(self.pattern.tenants).get(name)
        return None if app is None else make_tenant(self.server, user, name, app)

    def provisions(self, user: str) -> bool:
        """Return whether a machine is created for the user if there is none."""
        return self.pattern is not None and self.pattern.provision and self.is_of_pattern(user)

    def is_of_pattern(self, user: str) -> bool:
        """Return whether '*' matches the user. Invalid names never match."""
        if self.pattern is None or user in self.users or USER.fullmatch(user) is None:
            return False
        from flyatc.config import linear_regex  # most configurations have none

        return linear_regex.compiled(self.pattern.match).matches(user)

    def tenant_kept_as(self, user: str, key: str) -> Tenant:
        """Return the tenant with this folder or store key, even if it is no longer configured: its data remains."""
        name = name_of(key).strip("/")
        known = self.tenants.get(f"{user}/{name}" if name else user) or self.tenant_of_pattern(user, name)
        return known or make_tenant(self.server, user, name, App())


def prefix_of(server: Server, user: str, name: str) -> str:
    root = server.root.rstrip("/")
    return f"{root}/{user}/{name}" if name else f"{root}/{user}"


def make_tenant(server: Server, user: str, name: str, app: App, patterns: tuple[str, ...] = ()) -> Tenant:
    names, found = database_names.split(app.databases)
    return Tenant(
        patterns=patterns or found,
        user=user,
        name=name,
        prefix=prefix_of(server, user, name),
        data=Path(server.data, "tenants", user, segment_of(name)),
        app=structs.replace(app, databases=names) if found else app,
    )
