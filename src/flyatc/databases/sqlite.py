"""Copy and check a database with SQLite. Blocking.

Beware (sqlite.org/howtocorrupt.html, 2.2): closing *any* descriptor of a database file drops the locks which SQLite
holds on it in this process. While an app may run, only this module and ``stat`` access its files, never open().
"""

import contextlib
import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from flyatc.kit.threads import Tick

# A schema may need functions and collations that only the app has: then it cannot be checked here, and it passes.
_OF_THE_APP = re.compile("no such collation sequence|no such function|unknown function|no such module")

STEPS = 100_000  # of SQLite's virtual machine: some milliseconds
LOCKED_SECONDS = 30.0  # how long an app may lock others out before a save gives up


class Unusable(Exception):
    """SQLite cannot copy or read the database: it is damaged or locked. The text is the reason."""


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


def copy(source: Path, target: Path, tick: Tick, *, data: Path | None = None, keep_wal: bool = False) -> None:
    """Make a consistent copy of a database that others may be writing, with the content of its WAL. ``target`` is new.
    ``data``: the tenant's folder; below it nothing on the way to either may be a link, which an app can put there at
    any moment. ``keep_wal``: leave the WAL as it is, even if no other process has the database open.

    In one step: with smaller steps each write of another process restarts the copy, which would never end. The WAL or
    journal of a crashed writer is recovered first, as for any reader. Raises Unusable, OSError."""
    deadline = monotonic() + LOCKED_SECONDS

    def step(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and monotonic() > deadline:
            raise Unusable(f"locked by its app for more than {LOCKED_SECONDS:.0f} seconds")
        tick((total - remaining) * page, total * page)

    mode = "mode=ro" if keep_wal else "mode=rw"
    own = data if data is not None and target.is_relative_to(data) else None
    with _translated(source), _opened(source, mode, data) as original, _opened(target, "mode=rwc", own) as beside:
        page = int(original.execute("PRAGMA page_size").fetchone()[0])
        beside.execute("PRAGMA synchronous=OFF")  # synced once, when it is whole
        original.backup(beside, pages=-1, progress=step, sleep=0.02)


def reading(path: Path) -> sqlite3.Connection | None:
    """Open a read transaction, which prevents a restart of the WAL. None: there is no WAL, or it is empty."""
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
    """Checkpoint and truncate the WAL. No other process may have the database open. Raises Unusable, OSError."""
    wal = Path(f"{path}-wal")
    if not path.exists() or not wal.exists() or not wal.stat().st_size:
        return
    with _translated(path), _opened(path, "mode=rw") as database:
        busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise Unusable("another process has it open")


def check_still(path: Path) -> None:
    """Run quick_check on a file without writers and without a WAL; creates no file beside it. Raises Unusable.

    Only the structure is checked: rows that violate a constraint must be saved as well."""
    _check(path, "mode=ro&immutable=1")


def check_thoroughly(path: Path, tick: Tick) -> None:
    """Run integrity_check on such a file, which also compares indexes with tables. Raises Unusable."""
    _check(path, "mode=ro&immutable=1", "integrity_check", tick)


def check_local(path: Path) -> None:
    """Run quick_check on a local copy, after recovery of the WAL or journal of a crashed app. Raises Unusable."""
    _check(path, "mode=rw")


def _check(path: Path, mode: str, pragma: str = "quick_check", tick: Tick = lambda done, total: None) -> None:
    with _translated(path), _opened(path, mode) as database:
        database.set_progress_handler(lambda: tick(0, 0), STEPS)  # an exception in it interrupts SQLite
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
def _opened(path: Path, mode: str, data: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Open a database that is no link. ``data``: see ``copy``; None: links above it are followed."""
    address, folder = f"file:{quote(str(path))}?{mode}", path.parent if data is None else data
    expected = Path(os.path.realpath(folder), path.relative_to(folder))
    with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None)) as database:
        opened = database.execute("PRAGMA database_list").fetchone()[2]
        if os.fsencode(opened) != os.fsencode(expected):  # SQLite resolves a link, and opens no other
            raise OSError(errno.ELOOP, "it is a link", str(path))
        yield database


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn sqlite3.Error into OSError if the disk is at fault, else into Unusable."""
    try:
        yield
    except sqlite3.Error as error:
        number = _OF_THE_DISK.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY)
        if number is not None and path.exists():
            raise OSError(number, f"SQLite says: {error}", str(path)) from error
        raise Unusable(str(error)) from error
