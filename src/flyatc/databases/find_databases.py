"""Find SQLite databases in a folder, by their header. Blocking.

Only for files that this process does not have open by SQLite: closing a descriptor would drop SQLite's locks (see
``sqlite``). So the databases that flyatc saves are left out, also under another name.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import time

from flyatc.databases.local_files import BESIDE, HEADER
from flyatc.kit.durable_files import Inode, inode_of

MOST = 2000  # files and folders examined in one look
DEEPEST = 6  # levels of folders
AHEAD = 60.0  # s; the clock of a file server may be ahead by as much


@dataclass(frozen=True)
class Found:
    """``names``: relative to the folder, sorted; ``cut``: there was more than is examined."""

    names: list[str]
    cut: bool = False


class FolderScan:
    """Repeated looks into one folder. ``skip``: whether to leave out a file or folder, by its relative path. Files that
    were seen to be something else are not opened again."""

    def __init__(self, folder: Path, skip: Callable[[str], bool] = lambda name: False) -> None:
        self._folder, self._skip = folder, skip
        self._others: set[Inode] = set()

    def look(self, known: Collection[str] = (), *, since: float = 0.0) -> Found:
        """Return the databases but for ``known``, which are changed after ``since`` (Unix time)."""
        ours = {identity for name in known if (identity := inode_of(self._folder / name)) is not None}
        names: list[str] = []
        left = MOST
        for name, entry in self._walk():
            left -= 1
            if left < 0:
                return Found(sorted(names), cut=True)
            if self._is_database(entry, ours, since):
                names.append(name)
        return Found(sorted(names))

    def _walk(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        folders = [("", 0)]
        while folders:
            above, level = folders.pop()
            try:
                with os.scandir(self._folder / above) as entries:
                    found = sorted(islice(entries, MOST + 1), key=lambda entry: entry.name)
            except OSError:  # removed meanwhile, or not ours to read
                continue
            for entry in found:
                name = f"{above}{entry.name}"
                if entry.name.startswith(".") or self._skip(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if level < DEEPEST:
                        folders.append((f"{name}/", level + 1))
                elif not entry.name.endswith(BESIDE):
                    yield name, entry

    def _is_database(self, entry: os.DirEntry[str], ours: Collection[Inode], since: float) -> bool:
        try:
            seen = entry.stat(follow_symlinks=False)
            identity = (seen.st_dev, seen.st_ino)
            if not stat.S_ISREG(seen.st_mode) or seen.st_size < len(HEADER) or identity in ours:
                return False
            if identity in self._others:
                return False
            if since and max(known(seen.st_mtime), _changed(f"{entry.path}-wal")) < since:
                return False
            if is_database(entry.path):
                return True
        except OSError:
            return False
        if len(self._others) < MOST:
            self._others.add(identity)
        return False


def is_database(path: str) -> bool:
    """Return whether the file has SQLite's header. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(file, len(HEADER)) == HEADER
    finally:
        os.close(file)


def changed(path: str) -> float:
    """Return the Unix time of the last change of a database: of its file or its WAL; 0: none is known."""
    return max(_changed(path), _changed(f"{path}-wal"))


def known(moment: float) -> float:
    """Return the Unix time of a change; 0 if it lies in the future: a copied file may have such a time, which does not
    say that anyone writes it."""
    return moment if moment <= time() + AHEAD else 0.0


def _changed(path: str) -> float:
    try:
        seen = Path(path).stat()
    except OSError:
        return 0.0
    return known(seen.st_mtime) if seen.st_size else 0.0
