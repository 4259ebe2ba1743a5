"""SQLite itself: a consistent copy, a check. Blocking.

Beware (sqlite.org/howtocorrupt.html, 2.2): closing *any* descriptor of a database file drops the locks which SQLite
holds on it in this process. While an app may run, its files are touched by this module and by ``stat`` only, never by
open().
"""

import contextlib
import errno
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from flyatc.kit.threads import Tick

# A schema may need functions and collations which only the app has: then nobody else can check it, and it passes.
_OF_THE_APP = re.compile("no such collation sequence|no such function|unknown function|no such module")

STEPS = 100_000  # of SQLite's virtual machine: some milliseconds
LOCKED_SECONDS = 30.0  # how long an app may lock others out before a save gives up


class Unusable(Exception):
    """SQLite cannot copy or read it; says why: damaged, locked."""


# The disk's fault, not the file's (sqlite.org/rescode.html): raised as OSError. The low byte is the primary code.
_OF_THE_DISK = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}
_PRIMARY = 0xFF


def copy(source: Path, target: Path, tick: Tick, *, keep_wal: bool = False) -> None:
    """A consistent copy of a database which others may be writing, with all that is in its WAL. ``target`` is new.
    ``keep_wal``: the WAL stays as it is, also where nobody else has the database open.

    In one step: with smaller ones each write of another process starts the copy anew, and it would never end. A crashed
    writer's WAL or journal is recovered first, as for any reader. Raises Unusable."""
    deadline = monotonic() + LOCKED_SECONDS

    def step(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and monotonic() > deadline:
            raise Unusable(f"locked by its app for more than {LOCKED_SECONDS:.0f} seconds")
        tick((total - remaining) * page, total * page)

    mode = "mode=ro" if keep_wal else "mode=rw"
    with _door(source), _opened(source, mode) as original, _opened(target, "mode=rwc") as beside:
        page = int(original.execute("PRAGMA page_size").fetchone()[0])
        beside.execute("PRAGMA synchronous=OFF")  # synced once, when it is whole
        original.backup(beside, pages=-1, progress=step, sleep=0.02)


def reading(path: Path) -> sqlite3.Connection | None:
    """A read transaction: as long as it is open nobody can restart the WAL. None: there is no WAL, or it is empty."""
    wal = Path(f"{path}-wal")
    if not path.exists() or not wal.exists() or not wal.stat().st_size:
        return None
    database = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        database.close()
        return None
    return database


def empty_the_wal(path: Path) -> None:
    """All that is in the WAL goes into the database. Nobody else has it open. Raises Unusable, OSError."""
    wal = Path(f"{path}-wal")
    if not path.exists() or not wal.exists() or not wal.stat().st_size:
        return
    with _door(path), _opened(path, "mode=rw") as database:
        busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise Unusable("another process has it open")


def check_still(path: Path) -> None:
    """quick_check of a file which nobody writes and which has no WAL: leaves nothing beside it. Raises Unusable.

    What is checked is the structure: rows which break a constraint are the app's affair, they must be saved as well."""
    _check(path, "mode=ro&immutable=1")


def check_thoroughly(path: Path, tick: Tick) -> None:
    """integrity_check of such a file: also whether its indexes have what its tables have. Raises Unusable."""
    _check(path, "mode=ro&immutable=1", "integrity_check", tick)


def check_local(path: Path) -> None:
    """quick_check of a local copy, recovering what a crashed app left in its WAL or journal. Raises Unusable."""
    _check(path, "mode=rw")


def _check(path: Path, mode: str, pragma: str = "quick_check", tick: Tick = lambda done, total: None) -> None:
    with _door(path), _opened(path, mode) as database:
        database.set_progress_handler(lambda: tick(0, 0), STEPS)  # what it raises interrupts SQLite
        database.execute("PRAGMA ignore_check_constraints=ON")
        try:
            rows = [str(row[0]) for row in database.execute(f"PRAGMA {pragma}")]
        except sqlite3.OperationalError as error:
            if not _OF_THE_APP.match(str(error)):
                raise
            return
    found = [row for row in rows if row != "ok" and not row.startswith("NULL value in ")]
    if found:
        raise Unusable(f"PRAGMA {pragma} says: {'; '.join(found)[:300]}")


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    address = f"file:{quote(str(path))}?{mode}"
    with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None)) as database:
        yield database


@contextlib.contextmanager
def _door(path: Path) -> Iterator[None]:
    """Raises OSError where the disk is to blame."""
    try:
        yield
    except sqlite3.Error as error:
        number = _OF_THE_DISK.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY)
        if number is not None and path.exists():
            raise OSError(number, f"SQLite says: {error}", str(path)) from error
        raise Unusable(str(error)) from error
