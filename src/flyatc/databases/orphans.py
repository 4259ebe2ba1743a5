"""What was set aside also goes to the store, under a name of its own: the machine's disk may go away."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from time import monotonic

from flyatc.databases import attic, files, packing, sqlite
from flyatc.databases.database import Database
from flyatc.databases.lineage import SUFFIX
from flyatc.databases.tools import Tools
from flyatc.kit import backoff, tasks
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
    send(database, aside, tools)


def send(database: Database, aside: Path, tools: Tools) -> None:
    """In the background, until the store has it; what is not sent when the daemon ends is sent by the next."""
    sending = tasks.start(_sent(database, aside, tools), f"orphan of {database}")
    tools.sending.add(sending)
    sending.add_done_callback(tools.sending.discard)


def unsent(aside: Path) -> bool:
    return not (aside / attic.SENT).exists()


async def _sent(database: Database, aside: Path, tools: Tools) -> None:
    failures = 0
    while True:
        try:
            return await _send(database, aside, tools)
        except StoreUnavailable as error:
            if not failures:
                _tell_stuck(database, aside, error)
        except (sqlite.Unusable, ConditionFailed, OSError) as error:
            return _tell_stuck(database, aside, error)
        failures += 1
        await asyncio.sleep(backoff.delay(failures, first=1.0, most=60.0))


async def _send(database: Database, aside: Path, tools: Tools) -> None:
    """Its workplace is below ``aside``: the next hold may come meanwhile, and sweeps the tenant's."""
    began = monotonic()
    async with tools.saves, tools.workplace(aside, "send") as place:
        copy, packed = place / "copy", place / "copy.zst"
        await tools.heavy.watch(partial(sqlite.copy, aside / database.path.name, copy), "copy", silent)
        await tools.heavy.watch(partial(packing.pack, copy, packed), "compress", silent)
        with contextlib.suppress(ConditionFailed):  # it was sent before, and the answer was lost
            await database.shelf.attic.keep(f"{aside.name}{SUFFIX}", packed)
    await tools.quick.run((aside / attic.SENT).touch)
    ms = round((monotonic() - began) * 1000)
    database.tell("warning", "what was set aside is in the store as well", name=aside.name, ms=ms)


def _tell_stuck(database: Database, aside: Path, error: Exception) -> None:
    database.tell("warning", "what was set aside is on this machine only", path=str(aside), error=str(error))
