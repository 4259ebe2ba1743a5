"""Databases found by the patterns in ``databases``: those on record, in the store, and in the local folder."""

from functools import partial

from msgspec import structs

from flyatc.config import database_names, name_rules
from flyatc.config.schema import Tenant
from flyatc.databases.decisions import inventory
from flyatc.databases.find_databases import FolderScan
from flyatc.databases.local_record import Record
from flyatc.databases.workers import Workers
from flyatc.objects.store import ObjectStore

MOST = 100  # databases of a tenant that new ones are added to


async def expanded(tenant: Tenant, record: Record, store: ObjectStore | None, tools: Workers) -> Tenant:
    """Return the tenant with the names of all its databases. Costs a listing of the tenant's objects in the store if
    there are patterns. While no app runs. Raises StoreUnavailable, OSError."""
    if not any(not one.startswith(database_names.OUT) for one in tenant.patterns):
        return tenant
    known = {name for name in record.names if not name.endswith("/")}
    if store is not None:
        there = await store.list(f"{inventory.folder(tenant.user)}{tenant.key}/")
        known |= {one.database for one in inventory.take(there).databases}
    here = await tools.quick.run(partial(scan(tenant).look, sorted(known)))
    names = list(tenant.app.databases)
    names += sorted(name for name in known if is_new(tenant, name, names))
    for name in here.names:
        if len(names) < MOST and is_new(tenant, name, names):
            names.append(name)
    return structs.replace(tenant, app=structs.replace(tenant.app, databases=names))


def scan(tenant: Tenant) -> FolderScan:
    """Return a scan of the tenant's folder without its folders of files."""
    return FolderScan(tenant.data, lambda name: name in tenant.app.files)


def is_new(tenant: Tenant, name: str, names: list[str]) -> bool:
    """Return whether a pattern matches the name, and it can be a database beside ``names``."""
    if name in names or not database_names.matches(tenant.patterns, name) or name_rules.database(name) is not None:
        return False
    return not any(name_rules.within(name, one) or name_rules.within(one, name) for one in [*names, *tenant.app.files])
