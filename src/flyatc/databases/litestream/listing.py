"""What litestream has written of a database, as the store lists it."""

from flyatc.databases.database import Database
from flyatc.databases.lineage import Position
from flyatc.databases.litestream import lines
from flyatc.databases.litestream.address import prefix
from flyatc.databases.litestream.lines import Lines
from flyatc.objects.store import ObjectStore


async def listed(database: Database, store: ObjectStore, below: str = "") -> Lines:
    """``below``: in this folder of a line only. Raises StoreUnavailable."""
    own = prefix(database.tenant, database.name)
    return lines.read(await store.list(f"{own}{below}"), own)


async def newest(store: ObjectStore, database: Database) -> Position | None:
    """None: it has written nothing. Raises StoreUnavailable."""
    last = (await listed(database, store)).last
    return last.position if last is not None else None
