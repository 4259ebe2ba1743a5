"""The last save of one database after its app has ended: proven, and left as a snapshot besides.

A line of steps, each of which a crash, or a store that fails, may be the last of. Until the last one the record says
``in_use``: then the local copy is what counts, and all of this happens again.

1. litestream sends what is left, and lets go. The store has all, as far as litestream says.
2. what the stream restores is compared with the local database (``proof``). If it differs, the stream is begun anew,
   as a new line, and proven again. If that fails too, the database is not saved: the user becomes *dirty*.
3. the same content becomes a snapshot, by the steps of ``Database``. It bears the position of the stream, so that the
   next machine knows that both are the same, and reads the snapshot, which is one object.
4. the record says what the store has. Only then may the user be released.
"""

from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.databases import local_files, manifest, sqlite
from flyatc.databases.litestream import verify_replica
from flyatc.databases.litestream.replica_restore import LitestreamContext, NotRestored
from flyatc.databases.litestream.stream import Stream
from flyatc.databases.litestream.verify_replica import Differs, Proven
from flyatc.databases.manifest import Entry, Pointer
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable

TRIES = 3  # a litestream which was let go of in vain may still write when it closes the database
LARGE_SNAPSHOT_EACH = 10  # clean stops of a large database, then one leaves a snapshot


async def finish(stream: Stream, context: LitestreamContext) -> Entry:
    """What is to be on record: all is in the store. The app has ended, and litestream is to be let go of in any case.
    Raises SaveFailed."""
    database = stream.database
    if not _is_there(stream) or _known(stream):
        await stream.detach()
        await stream.settle()
        return _entry(stream, None)
    began, large = monotonic(), stream.octets > context.storage.large
    bound = context.tools.large if large else context.tools.saves
    async with bound, context.tools.workplace(database.folder, "save") as place:
        try:
            proven = await _proven(stream, place, context)
        except SaveFailed as error:
            raise SaveFailed(f"{error}{await _save_beside(stream)}") from error
        stream.txid, stream.saved_at = proven.position.txid, time()
        with_snapshot = not large or database.entry.skipped + 1 >= LARGE_SNAPSHOT_EACH
        pointer = await _snapshot(stream, proven) if with_snapshot else None
    ms, version = round((monotonic() - began) * 1000), str(proven.position)
    snapshot = manifest.version(pointer.key) if pointer is not None else None
    database.log_event("info", "saved", version=version, snapshot=snapshot, octets=stream.octets, ms=ms)
    return structs.replace(_entry(stream, pointer), skipped=0 if pointer is not None else database.entry.skipped + 1)


def _known(stream: Stream) -> bool:
    """Nothing was written since it was proven, and that is in the line which is ours."""
    entry = stream.database.entry
    return entry.txid > 0 and local_files.untouched(entry.signature, local_files.signature(stream.database.path))


async def renew(stream: Stream, reason: str, context: LitestreamContext) -> None:
    """A new line, which has all and can be restored; the app may run meanwhile. Raises SaveFailed."""
    database = stream.database
    await stream.begin_anew(reason)
    await stream.caught_up()
    async with context.tools.workplace(database.folder, "save") as place:
        try:
            line = await verify_replica.newest(database, stream.line, stream.renewal, context)
            await verify_replica.restore(database, line, place, context)
        except (Differs, NotRestored, StoreUnavailable, OSError) as error:
            raise SaveFailed(f"{database}: what was sent anew is not proven: {error}") from error


def _is_there(stream: Stream) -> bool:
    """Raises SaveFailed where it has lost what it had."""
    database = stream.database
    if database.path.exists() and database.path.stat().st_size:
        return True
    if database.path.exists() and stream.txid:
        raise SaveFailed(f"{database} is empty although it had content: not saved, the store keeps {stream.position}")
    if stream.txid:
        database.log_event(
            "warning", "the app has removed its database; the store keeps it", version=str(stream.position)
        )
    return False


async def _proven(stream: Stream, place: Path, context: LitestreamContext) -> Proven:
    """Raises SaveFailed."""
    reason = await _try(stream, place / "first", context)
    if isinstance(reason, Proven):
        return reason
    await stream.begin_anew(f"what the store has of it is not what is here: {reason}")
    again = await _try(stream, place / "second", context)
    if isinstance(again, Proven):
        stream.database.log_event("info", "what was begun anew restores into what is here", version=str(again.position))
        return again
    raise SaveFailed(
        f"{stream.database} is not saved: what the store has of it is not what is here, also after all was sent again: "
        f"{again}. The local copy is kept: start it again on this machine, and see flyatc history"
    )


async def _try(stream: Stream, place: Path, context: LitestreamContext) -> Proven | str:
    """Why the store does not have what is here. Raises SaveFailed where that cannot be found out.

    litestream sends what is left when it lets go, which takes milliseconds: nobody writes any more. If that was not
    all, it gets the database once more, and as much time as it needs."""
    if stream.begun:
        await stream.hand_over()
        found = await _compare(stream, place / "handed over", "", context)
        if isinstance(found, Proven):
            return found
        await stream.begin()
    behind = ""
    try:
        await stream.caught_up()
    except SaveFailed as error:  # what is in the store decides
        behind = f" ({error})"
    await stream.detach()
    return await _compare(stream, place / "caught up", behind, context)


async def _compare(stream: Stream, place: Path, behind: str, context: LitestreamContext) -> Proven | str:
    """As ``_try``; litestream has let go."""
    database = stream.database
    for number in range(TRIES):
        if not database.owned.valid():
            reason = "this machine may not write at this moment"
            raise SaveFailed(f"{database} is not saved: {reason}. The local copy is kept")
        before = local_files.signature(database.path)
        found = await _compare_once(stream, place / str(number), behind, context)
        if isinstance(found, Proven):
            await stream.settle()
        if local_files.untouched(before, local_files.signature(database.path)):
            return found
    raise SaveFailed(f"{database} is not saved: another process writes it after its app has ended")


async def _compare_once(stream: Stream, place: Path, behind: str, context: LitestreamContext) -> Proven | str:
    """As ``_compare``, of files which nobody writes."""
    database = stream.database
    await context.tools.quick.run(partial(place.mkdir, parents=True))
    try:
        return await verify_replica.prove(database, stream.line, stream.renewal, place, context)
    except Differs as error:
        return f"{error}{behind}"
    except NotRestored as error:
        if error.cause.passes:
            raise SaveFailed(f"{database} is not saved: {error.advice}. The local copy is kept") from error
        return f"{error}{behind}"
    except (StoreUnavailable, sqlite.Unusable, OSError) as error:
        raise SaveFailed(f"{database} is not saved: {error}{behind}. The local copy is kept") from error


async def _snapshot(stream: Stream, proven: Proven) -> Pointer | None:
    """None: it could not be made, which is told, and the stream has all nevertheless. Raises SaveFailed where somebody
    else has written."""
    database = stream.database
    try:
        pointer, published = await database.publish(proven.copy, proven.sha256, proven.position, silent)
    except (StoreUnavailable, ConditionFailed, OSError) as error:
        database.log_event("warning", "this stop leaves no snapshot: its stream has all", error=str(error))
        return None
    if published:
        await database.prune(pointer)
    return pointer


async def _save_beside(stream: Stream) -> str:
    """The stream cannot be trusted: a snapshot at least. What is to be added to what is told."""
    await stream.detach()
    if not stream.database.owned.valid():
        return ""
    try:
        await stream.database.save(silent)
    except SaveFailed:
        return ""
    return ". A snapshot of it is in the store: after flyatc takeover another machine can go on from that"


def _entry(stream: Stream, pointer: Pointer | None) -> Entry:
    entry = stream.database.entry
    if pointer is not None:
        entry = structs.replace(entry, base=pointer.link, pending=())
    return structs.replace(
        entry,
        in_use=False,
        signature=stream.signature,
        saved_at=stream.saved_at,
        epoch=stream.database.owned.epoch,
        line=stream.line,
        renewal=stream.renewal,
        txid=stream.txid,
    )
