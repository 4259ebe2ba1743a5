"""Final save of one streamed database after its app has ended: verify the stream, and leave a snapshot.

A crash or a failure of the store may come after each step. Until the last one the record says ``in_use``: then the
local copy is kept, and all steps are repeated.

1. litestream sends the rest and is detached. According to litestream, the store has everything.
2. Restore the stream, and compare with the local database (``verify_replica``). If it differs, renew the stream as a
   new line, and verify again. If that fails too, the database is not saved: the user becomes *dirty*.
3. Save the same content as a snapshot, by the steps of ``Database``. It has the position of the stream, so that the
   next machine knows that both are the same, and reads the snapshot, which is one object.
4. Record what the store has. Only then may the lease be released.
"""

from functools import partial
from pathlib import Path
from time import monotonic, time

from msgspec import structs

from flyatc.databases import local_files, manifest, sqlite
from flyatc.databases.litestream import verify_replica
from flyatc.databases.litestream.database_stream import Stream
from flyatc.databases.litestream.replica_restore import LitestreamContext, NotRestored
from flyatc.databases.litestream.verify_replica import Differs, Proven
from flyatc.databases.manifest import Entry, Pointer
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent
from flyatc.objects.store import ConditionFailed, StoreUnavailable

TRIES = 3  # after a failed detach litestream may still write when it closes the database
LARGE_SNAPSHOT_EACH = 10  # clean stops of a large database for each snapshot


async def finish(stream: Stream, context: LitestreamContext) -> Entry:
    """Save all, and return the entry for the record. The app has ended; the caller detaches litestream in any case.
    Raises SaveFailed."""
    database = stream.database
    if not _is_there(stream) or _known(stream):
        await stream.detach()
        await stream.settle()
        return _entry(stream, None)
    began, large = monotonic(), stream.size > context.storage.large
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
    database.log_event("info", "saved", version=version, snapshot=snapshot, size=stream.size, ms=ms)
    return structs.replace(_entry(stream, pointer), skipped=0 if pointer is not None else database.entry.skipped + 1)


def _known(stream: Stream) -> bool:
    """Return whether nothing was written since the last verified save in this line."""
    entry = stream.database.entry
    return entry.txid > 0 and local_files.untouched(entry.signature, local_files.signature(stream.database.path))


async def renew(stream: Stream, reason: str, context: LitestreamContext) -> None:
    """Start a new line, and verify that it can be restored; the app may run meanwhile. Raises SaveFailed."""
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
    """Return whether there is a database to save. Raises SaveFailed if it is empty but had content."""
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
    """Verify the stream; renew it once if it differs. Raises SaveFailed."""
    reason = await _try(stream, place / "first", context)
    if isinstance(reason, Proven):
        return reason
    await stream.begin_anew(f"what the store has of it is not what is here: {reason}")
    again = await _try(stream, place / "second", context)
    if isinstance(again, Proven):
        stream.database.log_event(
            "info", "the new stream restores into the local database", version=str(again.position)
        )
        return again
    raise SaveFailed(
        f"{stream.database} is not saved: what the store has of it is not what is here, even after all was sent again: "
        f"{again}. The local copy is kept: start it again on this machine, and see flyatc history"
    )


async def _try(stream: Stream, place: Path, context: LitestreamContext) -> Proven | str:
    """Verify once; return the difference as text if there is one. Raises SaveFailed if that cannot be determined.

    When detached, litestream sends the rest, which takes milliseconds since there are no writers. If that was not
    everything, it is attached once more, with as much time as it needs."""
    if stream.begun:
        await stream.hand_over()
        found = await _compare(stream, place / "handed over", "", context)
        if isinstance(found, Proven):
            return found
        await stream.begin()
    behind = ""
    try:
        await stream.caught_up()
    except SaveFailed as error:  # the comparison with the store decides
        behind = f" ({error})"
    await stream.detach()
    return await _compare(stream, place / "caught up", behind, context)


async def _compare(stream: Stream, place: Path, behind: str, context: LitestreamContext) -> Proven | str:
    """As ``_try``, after litestream was detached."""
    database = stream.database
    for number in range(TRIES):
        if not database.lease.valid():
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
    """As ``_compare``, for files without writers."""
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
    """Publish the verified copy. None: it failed, which is logged; the stream has all nevertheless. Raises SaveFailed
    if another machine has written."""
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
    """Save at least a snapshot, since the stream cannot be trusted; return a text to append to the error."""
    await stream.detach()
    if not stream.database.lease.valid():
        return ""
    try:
        await stream.database.save(silent)
    except SaveFailed:
        return ""
    return ". A snapshot of it is in the store: after flyatc takeover another machine can continue from that"


def _entry(stream: Stream, pointer: Pointer | None) -> Entry:
    entry = stream.database.entry
    if pointer is not None:
        entry = structs.replace(entry, base=pointer.link, pending=())
    return structs.replace(
        entry,
        in_use=False,
        signature=stream.signature,
        saved_at=stream.saved_at,
        epoch=stream.database.lease.epoch,
        line=stream.line,
        renewal=stream.renewal,
        txid=stream.txid,
    )
