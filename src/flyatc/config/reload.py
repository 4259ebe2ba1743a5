"""Difference between the running configuration and a new one. Pure."""

from collections.abc import Iterable

from msgspec import Struct, structs

from flyatc.config.schema import Config, Tenant, make_tenant

_FIXED = ("listen", "data", "control", "user_ids")  # of server: bound, opened or locked at start
_FIXED_LOG = ("format", "level")


class Changes(Struct, frozen=True):
    """Changed tenants by address, in the file's order. ``restart``: changed settings that need a daemon restart."""

    config: Config  # to apply: the new one, except the settings in ``restart``
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    restart: tuple[str, ...]  # "server.listen", "storage.url"


def changes(old: Config, new: Config, made: Iterable[Tenant] = ()) -> Changes:
    """Compare two configurations. ``made``: the tenants created by '*' so far, compared like the listed ones."""
    restart = tuple(f"server.{name}" for name in _FIXED if getattr(old.server, name) != getattr(new.server, name))
    for section in ("storage", "cache", "fly", "replay"):
        before, after = getattr(old, section), getattr(new, section)
        fields = before.__struct_fields__
        restart += tuple(f"{section}.{name}" for name in fields if getattr(before, name) != getattr(after, name))
    restart += tuple(f"log.{name}" for name in _FIXED_LOG if getattr(old.log, name) != getattr(new.log, name))
    config = _carried(old, new)
    tenants = old.tenants | {tenant.address: tenant for tenant in made}
    successors = {address: _successor(config, tenant) for address, tenant in tenants.items()}
    return Changes(
        config=config,
        added=tuple(address for address in config.tenants if address not in tenants),
        removed=tuple(address for address, tenant in successors.items() if tenant is None),
        changed=tuple(
            address for address, tenant in successors.items() if tenant is not None and tenant != tenants[address]
        ),
        restart=restart,
    )


def _carried(old: Config, new: Config) -> Config:
    """Return the new configuration with the old values of settings that only a restart can change.

    Above all ``server.data``: a tenant whose folder changed under a running daemon would lose unsaved data.
    """
    server = structs.replace(new.server, **{name: getattr(old.server, name) for name in _FIXED})
    log = structs.replace(new.log, **{name: getattr(old.log, name) for name in _FIXED_LOG})
    tenants = new.tenants
    if server.data != new.server.data:
        tenants = {
            address: make_tenant(server, one.user, one.name, one.app, one.patterns) for address, one in tenants.items()
        }
    return structs.replace(
        new,
        server=server,
        storage=old.storage,
        cache=old.cache,
        fly=old.fly,
        replay=old.replay,
        log=log,
        tenants=tenants,
    )


def _successor(config: Config, tenant: Tenant) -> Tenant | None:
    return config.tenants.get(tenant.address) or config.tenant_of_pattern(tenant.user, tenant.name)
