"""User ids of the tenants: allotted once, recorded in the data folder, and the owner of each tenant's folder. Blocking.

The record has one line for each tenant, ``ID ADDRESS``, and only grows: an id is never given to another tenant. If the
data folder is lost, the next machine allots anew and changes the owner of what it restores."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from flyatc.kit import durable_files

FILE = Path(".flyatc/user_ids")
MOST = 2**31 - 1  # some file systems and programs take ids as signed
OURS = ".flyatc"  # in a tenant's folder: the daemon's records
SEARCH = 0o011  # group and others may enter a folder, but not list it


class UserIds:
    """The ids of one data folder. Used by one thread at a time."""

    def __init__(self, data: Path, first: int) -> None:
        self._data, self._file, self._first = data, data / FILE, first
        self._known: dict[str, int] | None = None
        self._next = first

    def of(self, address: str) -> int:
        """Return the tenant's id; allot one durably at the first time. Raises OSError, ValueError."""
        known = self._read() if self._known is None else self._known
        if address not in known:
            if self._next > MOST:
                raise ValueError(f"all user ids from {self._first} are used")
            durable_files.make_folder(self._file.parent)
            with open(self._file, "ab", opener=durable_files.open_private) as file:
                file.write(f"{self._next} {address}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            known[address] = self._next
            self._next += 1
        return known[address]

    def _read(self) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            text = b""
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:  # a crash has cut the last line
            os.truncate(self._file, len(whole))
        for line in whole.decode().splitlines():
            number, _, address = line.partition(" ")
            found[address] = int(number)
        used = [*found.values(), *(self._owners() if not text else ())]
        self._next = max([self._first - 1, *(one for one in used if one >= self._first)]) + 1
        self._known = found
        return found

    def _owners(self) -> list[int]:
        """Return the owners of all tenants' folders, for the case that the record was lost."""
        found = []
        for folder in self._data.glob("tenants/*/*"):
            with contextlib.suppress(OSError):
                found.append(folder.lstat().st_uid)
        return found


def own(folder: Path, number: int, data: Path, quick: list[Path]) -> None:
    """Give a tenant's folder to its user id: mode 0700, and only this id and root may enter. Raises OSError.

    The whole tree is walked if the folder has another owner; else only ``quick`` and the folder's own entries: what
    the daemon has restored since. No process of the tenant runs meanwhile. Links are not followed, and a file with
    several names is skipped if it has another owner: one of the names may be elsewhere."""
    for above in (data, data / "tenants", folder.parent):
        make_reachable(above)
    before = folder.lstat()
    if not stat.S_ISDIR(before.st_mode):
        raise NotADirectoryError(20, "it is no folder", str(folder))
    for path in _all(folder) if before.st_uid != number else _restored(folder, number, quick):
        _give(path, number, before.st_uid)
    os.chown(folder, number, number, follow_symlinks=False)  # last: it says that all below is done
    if stat.S_IMODE(before.st_mode) != 0o700:
        folder.chmod(0o700)


def _all(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        if OURS in folders:
            folders.remove(OURS)
        yield from (Path(place, name) for name in (*folders, *files))


def _restored(folder: Path, number: int, quick: list[Path]) -> Iterator[Path]:
    """Yield what a restore may have replaced: files, and whole folders (``app.files``), the folder itself last.
    ``quick``: paths, or patterns as in ``app.databases``."""
    named = [path for one in quick for path in folder.glob(str(one.relative_to(folder)))]
    for path in (*named, *(path for path in folder.iterdir() if path.name != OURS)):
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid != number:
                yield from _all(path)
        yield from (path, *path.parents[: len(path.relative_to(folder).parts) - 1])


def make_private(folder: Path, number: int) -> None:
    """Create a folder of mode 0700 that belongs to the id. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, number, number, follow_symlinks=False)


def make_reachable(folder: Path) -> None:
    """Let other user ids enter the folder, but not list it."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & SEARCH != SEARCH:
        folder.chmod(mode | SEARCH)


def _give(path: Path, number: int, former: int) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if (found.st_uid, found.st_gid) == (number, number):
        return
    if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1 and found.st_uid != former:
        return
    os.chown(path, number, number, follow_symlinks=False)
