"""A database which another program has kept in the store as one whole object: taken over once, when we have none."""

from functools import partial
from pathlib import Path
from time import monotonic

from flyatc.config.schema import Tenant
from flyatc.databases import files, sqlite
from flyatc.databases.arrival import Arrival
from flyatc.databases.database import Database
from flyatc.databases.plan import Here
from flyatc.databases.tools import Tools
from flyatc.kit.errors import RestoreRefused
from flyatc.objects.store import Absent


async def adopt(template: str, database: Database, place: Path, tools: Tools) -> Arrival | None:
    """A checked copy of the object; None: it surely is not there. The object stays as it is.

    Raises RestoreRefused; StoreUnavailable, OSError."""
    began, key = monotonic(), fill(template, database.tenant, database.name)
    raw = place / f"{database.name.replace('/', '~')}.adopted"
    try:
        async with tools.restores:
            await database.shelf.borrow(key, raw)
    except Absent:
        return None
    if await tools.quick.run(partial(files.look, raw)) is not Here.SQLITE:
        raise RestoreRefused(
            f"{database}: the object {key!r} in the store is not a SQLite database. Without it an empty one is made"
        )
    try:
        await tools.heavy.run(partial(sqlite.check_still, raw))
    except sqlite.Unusable as error:
        raise RestoreRefused(f"{database}: the object {key!r} in the store is damaged: {error}") from error
    return Arrival(raw, "adopted", None, files.octets(raw), began)


def fill(template: str, tenant: Tenant, database: str) -> str:
    """Names of users, tenants and databases have no braces."""
    words = {"user": tenant.user, "tenant": tenant.name, "database": database}
    for word, value in words.items():
        template = template.replace(f"{{{word}}}", value)
    return template
