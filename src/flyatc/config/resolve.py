"""Resolve the file as written into Config: complete apps, absolute paths, all faults reported. Pure."""

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec import UNSET, Struct, structs

from flyatc.config import check_sections, database_names, merge, name_rules, private_paths
from flyatc.config.errors import Faults, Key
from flyatc.config.merge import Context, Disk
from flyatc.config.schema import ANYONE, USER_VARIABLE, App, Config, Pattern, Pin, Server, Tenant, make_tenant
from flyatc.config.schema_file import AppOverrides, File, UserEntry

ALONE = "app"  # the only tenant of `flyatc run`: its address and, in the store, its user


def resolve(
    file: File,
    path: Path,
    environ: Mapping[str, str],
    disk: Disk,
    faults: Faults,
    alone: Sequence[str] = (),
    variables: Container[str] | None = None,
    *,
    thorough: bool = False,
) -> Config:
    """Resolve a file. ``path``: of the file, absolute. ``alone``: the command of an app without users; it is then the
    only tenant, ``server.data`` itself is its folder, and the users of the file are ignored. ``variables``: those that
    the apps' settings may name, if not ``environ``. ``thorough``: also check what config.programs
    describes. The result is only valid if ``faults`` is empty."""
    context = Context(path.parent, environ, disk, faults, environ if variables is None else variables, thorough)
    server = check_sections.server(file.server, context)
    app = merge.lay(App(), file.app, ("app",), context)
    tenants: dict[str, Tenant] = {}
    users = file.users
    if alone:
        users, tenants = {}, {ALONE: _alone(structs.replace(app, command=list(alone)), server, context)}
    elif not users and not faults.reported(("users",)):
        faults.add(("users",), "at least one user is needed, or '*' for all that match a pattern")
    pattern, pins = None, {}
    for user, entry in users.items():
        if (pin := _pin(user, entry, faults)) is not None:
            pins[user] = pin
        apps = tuple(_tenants(user, entry, app, context))
        if user == ANYONE:
            pattern = _pattern(entry, app, apps, context)
            continue
        _check_user(user, entry, server, faults)
        for name, whole in apps:
            tenant = make_tenant(server, user, name, whole)
            tenants[tenant.address] = tenant
    config = Config(
        path=path,
        server=server,
        storage=check_sections.storage(file.storage, server.data, context),
        limits=file.limits,
        cache=file.cache,
        machine_idle=file.machine_idle,
        fly=check_sections.fly(file.fly, context),
        replay=check_sections.replay(file.replay, context),
        log=file.log,
        dashboard=None
        if alone
        else check_sections.dashboard(file.dashboard, server, users, partial(_matches, pattern), context),
        pages=app.pages,
        tenants=tenants,
        pattern=pattern,
        users=frozenset(users) - {ANYONE},
        pins=pins,
    )
    if alone:
        return config
    private_paths.check(file, config, faults)
    return _only(config, context)


def _only(config: Config, context: Context) -> Config:
    """Restrict the configuration to the one user served by this machine, if the environment names one."""
    user = context.environ.get(USER_VARIABLE)
    if not user:
        return config
    unmatched = config.pattern is None or not any(
        config.tenant_of_pattern(user, name) for name, _ in config.pattern.tenants
    )
    if user not in config.users and unmatched and not context.faults.reported(("users",)):
        context.faults.add_environment(
            USER_VARIABLE,
            f"names the only user that this machine serves (--user), and {user!r} is no user of this file",
        )
    return structs.replace(config, only=user)


def _alone(app: App, server: Server, context: Context) -> Tenant:
    merge.check_whole(app, [], context)
    if any(database_names.is_pattern(name) for name in app.databases) and not context.faults.reported(("app",)):
        context.faults.add(("app", "databases"), "has a pattern: flyatc run needs the names of the databases")
    return Tenant(user=ALONE, name="", prefix="", data=Path(server.data), app=app)


class _Entry(Struct, frozen=True):
    """One item of ``tenants:``."""

    name: str
    key: Key
    layer: AppOverrides | None


def _tenants(user: str, entry: UserEntry | None, app: App, context: Context) -> Iterator[tuple[str, App]]:
    """Yield each tenant of a user with its complete app."""
    key: Key = ("users", user)
    of_user = merge.lay(app, entry, key, context)
    for tenant in _entries(entry, key, context.faults):
        if fault := name_rules.tenant(tenant.name):
            context.faults.add(tenant.key, fault)
        whole = merge.lay(of_user, tenant.layer, tenant.key, context)
        merge.check_whole(whole, [(key, entry), (tenant.key, tenant.layer)], context)
        yield tenant.name, merge.settled(whole)


def _entries(entry: UserEntry | None, key: Key, faults: Faults) -> Iterator[_Entry]:
    listed = UNSET if entry is None else entry.tenants
    key = (*key, "tenants")
    if listed is UNSET:
        yield _Entry("", key, None)
    elif not listed:
        if not faults.reported(key):
            faults.add(key, "is empty: leave it out if the user is the tenant")
    elif isinstance(listed, dict):
        for name, layer in listed.items():
            yield _Entry(name, (*key, name), layer)
    else:
        seen: set[str] = set()
        for index, name in enumerate(listed):
            if name in seen:
                faults.add((*key, index), f"{name!r} is listed twice")
            seen.add(name)
            yield _Entry(name, (*key, index), None)


def _check_user(user: str, entry: UserEntry | None, server: Server, faults: Faults) -> None:
    key: Key = ("users", user)
    if fault := name_rules.user(user):
        faults.add(key, fault)
    if entry is not None and entry.match is not UNSET:
        faults.add((*key, "match"), "is only for '*': this user has a name")
    if entry is not None and entry.provision is not UNSET:
        faults.add((*key, "provision"), "is only for '*': flyatc users add makes a machine for a user with a name")
    prefix = f"{server.root.rstrip('/')}/{user}"
    if server.health is not None and f"{server.health}/".startswith(f"{prefix}/"):
        faults.add(
            ("server", "health"), f"{server.health} is an address of the user {user}, whose app would not see it"
        )


def _pin(user: str, entry: UserEntry | None, faults: Faults) -> Pin | None:
    if entry is None or (entry.region is UNSET and entry.machine is UNSET):
        return None
    key: Key = ("users", user)
    if entry.region is not UNSET and entry.machine is not UNSET:
        faults.add((*key, "machine"), "names the machine, and region a region: one of the two is enough")
    if entry.region is not UNSET and (fault := name_rules.region(entry.region)):
        faults.add((*key, "region"), fault)
    if entry.machine is not UNSET and (fault := name_rules.machine(entry.machine)):
        faults.add((*key, "machine"), fault)
    return Pin(region=entry.region or None, machine=entry.machine or None)


def _matches(pattern: Pattern | None, user: str) -> bool:
    from flyatc.config import linear_regex  # most configurations have none

    return pattern is not None and linear_regex.compiled(pattern.match).matches(user)


def _pattern(entry: UserEntry | None, app: App, apps: tuple[tuple[str, App], ...], context: Context) -> Pattern | None:
    match = UNSET if entry is None else entry.match
    key: Key = ("users", ANYONE, "match")
    if match is UNSET:
        if not context.faults.reported(key):
            context.faults.add(
                key, "is missing: a pattern that the whole user segment must match, such as '[0-9]{1,9}'"
            )
        return None
    from flyatc.config import linear_regex  # most configurations have none

    try:
        linear_regex.compiled(match)
    except linear_regex.PatternError as error:
        context.faults.add(key, f"{match!r} cannot be used: {error}")
        return None
    of_all, provision = merge.lay(app, entry, ("users", ANYONE), context), entry is not None and entry.provision is True
    return Pattern(match=match, app=of_all, tenants=apps, provision=provision)
