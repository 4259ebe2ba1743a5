"""Verify backups: restore what the store has of a database into a scratch folder, and check it.

For snapshots this is the one that current.json names; for litestream the newest line, restored by litestream itself.
The store is only read; no running app and no local copy is touched. Scratch folders are temporary: they are removed
afterwards, even if the process was killed.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Protocol

from msgspec import Struct

from flyatc.config.schema import Tenant
from flyatc.databases import local_files, manifest, sqlite, transfer
from flyatc.databases.decisions.inventory import StoredDatabase
from flyatc.databases.litestream import replica_layout, replica_restore
from flyatc.databases.litestream.replica_layout import Line, prefix
from flyatc.databases.litestream.replica_restore import LitestreamContext
from flyatc.databases.manifest import Pointer
from flyatc.databases.remote import PointerDamaged, RemoteDatabase
from flyatc.databases.workers import Workers
from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError
from flyatc.kit.types import silent
from flyatc.kit.units import human_size
from flyatc.objects.store import ObjectStore

RESERVE = 64 << 20  # bytes that must stay free on the disk


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Hold flock(2) on the folder itself: it is released when the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class Scratch:
    """A temporary folder below ``own``/drills, mode 0700. ``own``: the daemon's folder. Call ``remove`` at the end."""

    def __init__(self, own: Path) -> None:
        durable_files.make_folder(own)
        parent = own / "drills"
        parent.mkdir(mode=0o700, exist_ok=True)
        with lock_folder(parent):
            _sweep(parent)
            self.path = Path(tempfile.mkdtemp(prefix="drill-", dir=parent))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def lacks(self, size: int) -> int:
        """Return how many bytes are missing to hold so many; 0: none."""
        return max(0, size + RESERVE - shutil.disk_usage(self.path).free)

    def clear(self) -> None:
        """Remove its content."""
        for found in self.path.iterdir():
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(parent: Path) -> None:
    """Remove folders of dead processes: their locks are free."""
    for found in parent.glob("drill-*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(found, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(descriptor)


ROUNDS = 3  # attempts: a running daemon may remove old files during a read; then there is a newer version


class Damaged(Exception):
    """The database cannot be restored; the text is the reason."""


@dataclass(frozen=True)
class Found:
    """A version to restore. ``needs``: bytes on the disk, as far as is known. ``bring`` makes a complete file below an
    empty folder; raises Damaged, StoreUnavailable, OSError. ``check``, if it is no database, does all, with the same
    errors, and returns the bytes."""

    version: str
    needs: int
    bring: Callable[[Path], Awaitable[Path]]
    check: Callable[[Path], Awaitable[int]] | None = None


class Source(Protocol):
    """One form in which databases are kept in a store."""

    @property
    def kind(self) -> str:
        """Return snapshot or stream."""

    def has(self, stocked: StoredDatabase) -> bool: ...

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        """Return the current version; None: nothing was saved yet. Raises Damaged, StoreUnavailable."""


class Verdict(Struct, frozen=True, kw_only=True):
    """``state``: ok; damaged; unknown (not possible: no room, store unreachable). ``why``: reason, if not ok."""

    tenant: str  # its address
    database: str
    kind: str = "snapshot"  # stream, files
    state: str
    version: str | None = None
    size: int = 0
    ms: int = 0
    why: str = ""


class Compare(Protocol):
    async def __call__(self, address: str, database: str, version: str, raw: Path) -> str | None:
        """Return the difference between ``raw``, which the store has as ``version``, and the local file of a running
        tenant; None: none, or they cannot be compared now. Raises FlyatcError, OSError."""


async def nothing_to_compare(address: str, database: str, version: str, raw: Path) -> str | None:
    return None


class Verifier:
    """Verifies one database at a time. ``scratch`` must be empty, and is empty afterwards."""

    def __init__(self, sources: Sequence[Source], scratch: Scratch, tools: Workers) -> None:
        self._sources, self._scratch, self._tools = sources, scratch, tools
        self.compare: Compare = nothing_to_compare

    async def verify(self, tenant: Tenant, stocked: StoredDatabase) -> list[Verdict]:
        """Return a verdict for each form in which the store keeps it; none: nothing was saved yet."""
        verdicts = []
        for source in self._sources:
            if source.has(stocked):
                verdict = await self._verify(source, tenant, stocked.database)
                verdicts += [verdict] if verdict is not None else []
        return verdicts

    async def _verify(self, source: Source, tenant: Tenant, database: str) -> Verdict | None:
        began, version, size, state, why = monotonic(), None, 0, "ok", ""
        try:
            found = await source.find(tenant, database)
            for _ in range(ROUNDS):
                if found is None:
                    return None
                version, state, why = found.version, "ok", ""
                try:
                    size = await self._try(found, tenant.address, database)
                    break
                except Damaged as error:
                    state, why = "damaged", str(error)
                found = await source.find(tenant, database)  # raises if the store is only out of reach
                if found is None or found.version == version:
                    break
        except Damaged as error:
            state, why = "damaged", str(error)
        except (FlyatcError, OSError) as error:
            state, why = "unknown", str(error)
        return Verdict(
            tenant=tenant.address,
            database=database,
            kind=source.kind,
            state=state,
            version=version,
            size=size,
            ms=round((monotonic() - began) * 1000),
            why=why,
        )

    async def _try(self, found: Found, address: str, database: str) -> int:
        """Restore, check and compare; return the bytes of the database. Raises Damaged, FlyatcError, OSError."""
        quick, heavy = self._tools.quick, self._tools.heavy
        lacking = await quick.run(partial(self._scratch.lacks, found.needs))
        if lacking:
            raise FlyatcError(f"no room to restore it: {human_size(lacking)} are missing at {self._scratch.path}")
        try:
            if found.check is not None:
                return await found.check(self._scratch.path)
            raw = await found.bring(self._scratch.path)
            await heavy.watch(partial(sqlite.check_thoroughly, raw), "check", silent)
            if difference := await self.compare(address, database, found.version, raw):
                raise Damaged(difference)
            return await quick.run(partial(local_files.size, raw))
        except sqlite.Unusable as error:
            raise Damaged(str(error)) from error
        finally:
            await quick.run(self._scratch.clear)


class Snapshots:
    kind = "snapshot"

    def __init__(self, store: ObjectStore, tools: Workers) -> None:
        self._store, self._tools = store, tools

    def has(self, stocked: StoredDatabase) -> bool:
        return stocked.snapshots and not stocked.is_folder

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        remote_database = RemoteDatabase(self._store, tenant, database)
        try:
            current = await remote_database.current()
        except PointerDamaged as error:
            raise Damaged(str(error)) from error
        if current is None:
            if there := await remote_database.snapshots():
                newest = manifest.version(max(there))
                raise Damaged(f"there are snapshots but no current.json: restore one (the newest is {newest})")
            return None
        pointer = current.pointer
        if pointer is None:
            return None  # any snapshots are from a first save that was never confirmed
        needs = pointer.size + pointer.compressed
        return Found(manifest.version(pointer.key), needs, partial(self._bring, remote_database, pointer))

    async def _bring(self, remote_database: RemoteDatabase, pointer: Pointer, place: Path) -> Path:
        try:
            return await transfer.fetch(remote_database, pointer.key, pointer.snapshot, place, self._tools, silent)
        except transfer.SnapshotDamaged as error:
            raise Damaged(str(error)) from error


EXPANDED = 4  # a restored database needs about so many times the space of its compressed replica


class Replicas:
    kind = "stream"

    def __init__(self, context: LitestreamContext) -> None:
        self._context = context

    def has(self, stocked: StoredDatabase) -> bool:
        return stocked.lines

    async def find(self, tenant: Tenant, database: str) -> Found | None:
        own = prefix(tenant, database)
        line = replica_layout.read(await self._context.store.list(own), own).last
        if line is None:
            return None
        version = f"{line.name}:{line.txid}"
        return Found(version, line.size * EXPANDED, partial(self._bring, tenant, database, line))

    async def _bring(self, tenant: Tenant, database: str, line: Line, place: Path) -> Path:
        context = self._context
        url = context.addresses.of_line(tenant, database, line.number, line.renewal)
        try:
            return await replica_restore.restore(url, place, None, line.size, context, silent)
        except replica_restore.NotRestored as error:
            if error.cause.passes:
                raise FlyatcError(error.advice) from error
            raise Damaged(str(error)) from error
