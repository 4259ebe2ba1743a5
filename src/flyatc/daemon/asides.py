"""What was set aside of everybody's databases, on this machine and in the store, as one list."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct

from flyatc.config.schema import Config, Tenant
from flyatc.daemon import drills
from flyatc.databases import attic
from flyatc.databases.inventory import Kept
from flyatc.observe.log import stamp


class Orphan(Struct, frozen=True, kw_only=True):
    """``path``: on this machine; None: it is not here. ``stored``: octets in the store; None: it is not there."""

    tenant: str
    database: str
    name: str
    at: str | None  # RFC 3339; None: its name does not tell
    path: str | None = None
    size: int | None = None  # octets on this machine
    stored: int | None = None


async def find(config: Config, environ: Mapping[str, str], address: str | None) -> list[Orphan]:
    """Of a tenant, of a user, or (None) of all; oldest first. Raises StoreUnavailable, OSError."""
    here = await asyncio.to_thread(partial(_here, config, address))
    there: list[Kept] = []
    if config.storage.mode != "none":
        async with drills.opened(config, environ) as store:
            there = (await drills.stock(store, address)).orphans
    found = dict(here)
    for kept in there:
        tenant = config.tenant_kept_as(kept.user, kept.key)
        name = (tenant.address, kept.name, kept.database)
        local = found.pop(name, None)
        found[name] = Orphan(
            tenant=tenant.address,
            database=kept.database,
            name=kept.name,
            at=_time(kept.name),
            path=local.path if local is not None else None,
            size=local.size if local is not None else None,
            stored=kept.octets,
        )
    return sorted(found.values(), key=lambda one: (one.tenant, one.name, one.database))


def _here(config: Config, address: str | None) -> dict[tuple[str, str, str], Orphan]:
    found = {}
    for folder in sorted(Path(config.server.data).glob("tenants/*/*/.flyatc/orphans")):
        tenant = config.tenant_kept_as(folder.parents[2].name, folder.parents[1].name)
        if address in (None, tenant.user, tenant.address):
            for one in attic.folders(folder.parent):
                database = _database(tenant, one.file)
                found[tenant.address, one.name, database] = Orphan(
                    tenant=tenant.address,
                    database=database,
                    name=one.name,
                    at=_time(one.name),
                    path=str(one.path / one.file),
                    size=one.octets,
                )
    return found


def _database(tenant: Tenant, file: str) -> str:
    """The one whose file it was; the file's own name where that is not known."""
    like = [name for name in tenant.app.databases if name.rpartition("/")[2] == file]
    return like[0] if len(like) == 1 else file


def _time(name: str) -> str | None:
    at = attic.set_aside_at(name)
    return None if at is None else stamp(at)
