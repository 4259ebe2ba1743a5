"""Going back in history: a version somebody chose takes the place of the local copy, and goes on top of history."""

from functools import partial

from flyatc.config.schema import Tenant
from flyatc.databases import files, lineage, opening
from flyatc.databases.database import Database
from flyatc.databases.lineage import Entry, Pointer
from flyatc.databases.opening import Arrival
from flyatc.databases.record import Record
from flyatc.databases.tools import Tools
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.progress import Progress


async def turn_to(
    version: str | None, tenant: Tenant, databases: list[Database], record: Record, tools: Tools, progress: Progress
) -> None:
    """On return the record says that the chosen content is in use, changed since the store's current version: whoever
    saves next puts it on top. All are verified before the first is put in place. Raises RestoreRefused."""
    picks = [await _pick(version, database) for database in databases]
    async with tools.workplace(tenant.data / ".flyatc", "restore") as place:
        work = (
            opening.bring(database, key, pointer, place, tools, progress)
            for database, (key, pointer) in zip(databases, picks, strict=True)
        )
        arrivals = await tasks.every(work, "restore")
        settle = _settle(databases, picks, arrivals, record, tools)
        await tasks.to_the_end(tasks.start(settle, f"settle {tenant.address}"))


async def _pick(version: str | None, database: Database) -> tuple[str, Pointer | None]:
    """The snapshot's name, and the pointer that is current."""
    current = await database.shelf.current()
    pointer = current.pointer if current is not None else None
    if version is None:
        if pointer is None:
            raise RestoreRefused(
                f"{database}: the store has no current version of it: choose one from flyatc restore --list"
            )
        return pointer.key, pointer
    key = f"{version}{lineage.SUFFIX}"
    if key not in await database.shelf.snapshots():
        raise RestoreRefused(
            f"{database} has no version {version!r}: see flyatc restore --list {database.tenant.address}"
        )
    return key, pointer


async def _settle(
    databases: list[Database],
    picks: list[tuple[str, Pointer | None]],
    arrivals: list[Arrival],
    record: Record,
    tools: Tools,
) -> None:
    entries = {}
    for database, (key, pointer), arrival in zip(databases, picks, arrivals, strict=True):
        await opening.put_in_place(arrival, database, tools, "somebody asked for it")
        same = pointer is not None and key == pointer.key
        entries[database.name] = Entry(
            base=pointer.link if pointer is not None else None,
            pending=database.entry.pending,  # one which is still on its way may be built upon as well
            in_use=True,
            signature=await tools.quick.run(partial(files.signature, database.path)) if same else None,
            saved_at=lineage.saved_at(pointer) if pointer is not None else None,
        )
    await record.put(entries)
