"""What was set aside also goes to the store, under a name of its own: the machine's disk may go away."""

from functools import partial
from pathlib import Path
from time import monotonic

from flyatc.databases import files, packing, sqlite
from flyatc.databases.database import Database
from flyatc.databases.lineage import SUFFIX
from flyatc.databases.tools import Tools
from flyatc.kit import tasks
from flyatc.kit.progress import silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable


async def set_aside(database: Database, tools: Tools, reason: str) -> None:
    """The local files are moved away, and sent in the background. Raises OSError."""
    aside = await tools.quick.run(partial(files.set_aside, database.path, database.folder))
    if aside is not None:
        tell(database, aside, tools, reason)


def tell(database: Database, aside: Path, tools: Tools, reason: str) -> None:
    """Loud: somebody's data are no longer where the app looks for them."""
    database.tell("warning", "the local copy was set aside", path=str(aside), reason=reason)
    sending = tasks.start(_send(database, aside, tools), f"orphan of {database}")
    tools.sending.add(sending)
    sending.add_done_callback(tools.sending.discard)


async def _send(database: Database, aside: Path, tools: Tools) -> None:
    """Its workplace is below ``aside``: the next hold may come meanwhile, and sweeps the tenant's."""
    began = monotonic()
    try:
        async with tools.saves, tools.workplace(aside, "send") as place:
            copy, packed = place / "copy", place / "copy.zst"
            await tools.heavy.watch(partial(sqlite.copy, aside / database.path.name, copy), "copy", silent)
            await tools.heavy.watch(partial(packing.pack, copy, packed), "compress", silent)
            key = await database.shelf.attic.keep(f"{aside.name}{SUFFIX}", packed)
    except (sqlite.Unusable, StoreUnavailable, ConditionFailed, OSError) as error:
        database.tell("warning", "what was set aside is on this machine only", path=str(aside), error=str(error))
        return
    ms = round((monotonic() - began) * 1000)
    database.tell("warning", "what was set aside is in the store as well", key=key, ms=ms)
