"""The file tenants.yaml as it is written: sections, users, and their overrides of app."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from flyatc.config.schema import App
from flyatc.config.schema_sections import (
    Auth,
    Cache,
    Cores,
    DeliveryOverrides,
    Fly,
    Isolation,
    Limits,
    Logging,
    MachineIdle,
    Memory,
    PositiveSeconds,
    Replay,
    Seconds,
    Storage,
)
from flyatc.config.schema_server import Dashboard, Server


class AppOverrides(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of App, each of which may be left out."""

    command: list[str] | UnsetType = UNSET
    directory: str | UnsetType = UNSET
    env: dict[str, str | None] | UnsetType = UNSET
    before_start: list[str | list[str]] | UnsetType = UNSET
    before_start_timeout: PositiveSeconds | UnsetType = UNSET
    ready: str | UnsetType | None = UNSET
    ready_host: str | UnsetType = UNSET
    verify_port: bool | UnsetType = UNSET
    start_timeout: PositiveSeconds | UnsetType = UNSET
    waiting_page_after: Seconds | UnsetType = UNSET
    response_timeout: Seconds | UnsetType = UNSET
    idle: Seconds | UnsetType = UNSET
    idle_counts: list[Literal["requests", "cpu", "writes", "sleeps"]] | UnsetType = UNSET
    idle_most: Seconds | UnsetType = UNSET
    drain_timeout: Seconds | UnsetType = UNSET
    stop_grace: Seconds | UnsetType = UNSET
    isolation: Isolation | UnsetType = UNSET
    writable: list[str] | UnsetType = UNSET
    memory: Memory | UnsetType | None = UNSET
    cpu: Cores | UnsetType | None = UNSET
    strip_prefix: bool | UnsetType = UNSET
    slash: bool | UnsetType = UNSET
    cookies: Literal["tenant", "keep"] | UnsetType = UNSET
    redirects: Literal["tenant", "keep"] | UnsetType = UNSET
    auth: Auth | UnsetType | None = UNSET
    databases: list[str] | UnsetType = UNSET
    files: list[str] | UnsetType = UNSET
    seed: str | dict[str, str] | UnsetType | None = UNSET
    pages: dict[str, str] | UnsetType = UNSET
    delivery: DeliveryOverrides | UnsetType = UNSET


class UserEntry(AppOverrides, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tenants: Annotated[
        list[str] | dict[str, AppOverrides | None] | UnsetType,
        Meta(description="the segments after the user; without it: the user is the tenant"),
    ] = UNSET
    match: Annotated[
        str | UnsetType,
        Meta(
            description="only for '*': a regular expression that the whole user segment must match; without "
            "look-around, back-references, lazy and possessive repetition"
        ),
    ] = UNSET
    provision: Annotated[
        bool | UnsetType,
        Meta(description="only for '*', on Fly, with fly.metadata and FLY_API_TOKEN: true: a matching user "
             "without a machine gets one, a copy of the machine that got the request; fly.machines_most limits them"),
    ] = UNSET  # fmt: skip
    region: Annotated[
        str | UnsetType, Meta(description="on Fly: the region whose machines serve this user, such as bos")
    ] = UNSET
    machine: Annotated[
        str | UnsetType,
        Meta(description="on Fly: the id of the machine that serves this user; takes precedence over all else"),
    ] = UNSET


class File(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file tenants.yaml."""

    server: Server = field(default_factory=Server)
    app: App = field(default_factory=App)
    storage: Storage = field(default_factory=Storage)
    users: Annotated[
        dict[str, UserEntry | None],
        Meta(description="from the first path segment to its tenants; '*' stands for users not listed"),
    ] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    cache: Cache = field(default_factory=Cache)
    machine_idle: MachineIdle = field(default_factory=MachineIdle)
    fly: Fly = field(default_factory=Fly)
    replay: Replay = field(default_factory=Replay)
    log: Logging = field(default_factory=Logging)
    dashboard: Annotated[
        Dashboard | None, Meta(description="pages for the operator, in a browser; off without this section")
    ] = None
