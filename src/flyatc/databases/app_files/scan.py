"""Look at a local folder without following links: its metadata, and the content of single files. Blocking.

An app may put anything into the folder, also while it is read. So every part of a path is opened below the one before
it, with O_NOFOLLOW; only regular files and folders count.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns
from typing import NamedTuple

from flyatc.databases.app_files.manifest import LONGEST_PATH, MODES, quote, unquote
from flyatc.databases.local_files import SECOND, TICK
from flyatc.databases.manifest import Stamp

CHUNK = 1 << 18
DEEPEST = 128  # folders within folders; each takes a file descriptor
NAMED = 5  # of what is skipped
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TooMuch(Exception):
    """The folder is beyond its limits; the text is a sentence."""


class NoFolder(Exception):
    """It is no folder that can be saved; the text is the reason."""


class Changed(Exception):
    """The file was changed or removed while it was read."""


class Stat(NamedTuple):
    stamp: Stamp
    mode: int

    @property
    def size(self) -> int:
        return self.stamp[1]

    @property
    def mtime(self) -> int:
        return self.stamp[2]

    @property
    def settled(self) -> bool:
        """True if a later write will change the stamp: its ctime, which an app cannot set, is older than a tick."""
        ctime = self.stamp[3]
        return time_ns() - ctime > (2 * SECOND if ctime % SECOND == 0 else TICK)


@dataclass
class Scan:
    """Files and folders by encoded path (see ``manifest``). ``skipped``: what is neither. ``mode``: of the folder."""

    mode: int = 0o755
    files: dict[str, Stat] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    size: int = 0
    newest: int = 0  # ns; ctime

    @property
    def unsettled(self) -> bool:
        """True if a file was changed so lately that a further change might not show in its metadata."""
        return time_ns() - self.newest <= TICK

    @property
    def skipped_sentence(self) -> str:
        named = ", ".join(sorted(self.skipped)[:NAMED])
        more = f" and {len(self.skipped) - NAMED} more" if len(self.skipped) > NAMED else ""
        return f"links, sockets, pipes and devices are not saved: {named}{more}"


def scan(root: Path, most: int, size: int) -> Scan | None:
    """Read the metadata of all files; opens folders only. None: there is no such folder.

    Raises TooMuch, NoFolder, OSError."""
    try:
        descriptor = os.open(root, FOLDER)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise NoFolder(f"{root} is not a folder, or a link to one") from error
    found = Scan()
    try:
        found.mode = stat.S_IMODE(os.fstat(descriptor).st_mode) & MODES
        _scan(descriptor, "", found, most, 1)
    finally:
        os.close(descriptor)
    if found.size > size:
        raise TooMuch(f"{root} has {found.size} bytes, and storage.files_size is {size}")
    return found


def _scan(descriptor: int, above: str, found: Scan, most: int, depth: int) -> None:
    below: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            path = f"{above}{quote(os.fsencode(entry.name))}"
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                found.folders[path] = stat.S_IMODE(status.st_mode) & MODES
                below.append(entry.name)
            elif stat.S_ISREG(status.st_mode) and len(unquote(path)) <= LONGEST_PATH:
                found.files[path] = _stat(status)
                found.size += status.st_size
                found.newest = max(found.newest, status.st_ctime_ns)
            else:
                found.skipped.append(path)
            if len(found.files) + len(found.folders) > most:
                raise TooMuch(f"there are more than {most} files and folders in it: see storage.files_most")
    if below and depth >= DEEPEST:
        raise TooMuch(f"{above[:100]}… is more than {DEEPEST} folders deep")
    for name in below:
        try:
            inner = os.open(name, FOLDER, dir_fd=descriptor)
        except (FileNotFoundError, NotADirectoryError):
            found.folders.pop(f"{above}{quote(os.fsencode(name))}")  # it was removed or replaced just now
            continue
        try:
            _scan(inner, f"{above}{quote(os.fsencode(name))}/", found, most, depth + 1)
        finally:
            os.close(inner)


def look(root: Path, path: str) -> Stat | None:
    """Return the metadata of one file; None: it is gone. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), _parent(root, path) as (parent, name):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return _stat(status) if stat.S_ISREG(status.st_mode) else None
    return None


def link(root: Path, path: str, target: Path) -> bool:
    """Give a file a second name, so that its content outlives a removal. False: not possible, or it is gone."""
    with contextlib.suppress(OSError), _parent(root, path) as (parent, name):
        os.link(name, os.fsencode(target), src_dir_fd=parent, follow_symlinks=False)
        return True
    return False


def read(root: Path, path: str, seen: Stat, take: Callable[[bytes], object]) -> str:
    """Pass the content of a file to ``take``, in pieces; return its sha256. Raises Changed unless the file is as it was
    ``seen``, before and after; OSError."""
    found = hashlib.sha256()
    try:
        with _opened(root, path) as descriptor:
            if _stat(os.fstat(descriptor)).stamp != seen.stamp:
                raise Changed(path)
            left = seen.size
            while chunk := os.read(descriptor, CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise Changed(path)
                found.update(chunk)
                take(chunk)
            if _stat(os.fstat(descriptor)).stamp != seen.stamp:
                raise Changed(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Changed(path) from error
    return found.hexdigest()


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    with _parent(root, path) as (parent, name):
        try:
            descriptor = os.open(name, FILE, dir_fd=parent)
        except OSError as error:
            if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise
            raise Changed(path) from error  # a link by now
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _parent(root: Path, path: str) -> Iterator[tuple[int, bytes]]:
    """Open the folder that ``path`` is in, part by part."""
    *above, name = unquote(path).split(b"/")
    descriptor = os.open(root, FOLDER)
    try:
        for part in above:
            inner = os.open(part, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    finally:
        os.close(descriptor)


def _stat(status: os.stat_result) -> Stat:
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return Stat(stamp, stat.S_IMODE(status.st_mode) & MODES)
