"""Open regular files safely, only below allowed folders.

The check applies to what was opened, not to what the path meant a moment before: the path is opened with O_PATH (which
touches neither devices nor fifos), the kernel reports its real path, and only then is that inode opened for reading.
"""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL))


class FileFault(Exception):
    """The file cannot be served. ``path``: as requested; ``reason``: for the log, not for clients."""

    def __init__(self, path: bytes, reason: str) -> None:
        super().__init__(f"{os.fsdecode(path)!r} {reason}")
        self.path, self.reason = path, reason


class Missing(FileFault):
    """There is no such file, or it is not regular: a folder, a device, a fifo."""


class Outside(FileFault):
    """Its real path is ``real``, outside the allowed folders. An operator should look at this."""

    def __init__(self, path: bytes, real: bytes) -> None:
        super().__init__(path, f"is outside of the folders whose files may be sent: it is {os.fsdecode(real)!r}")
        self.real = real


class Unreadable(FileFault):
    """It exists, but cannot be opened. ``forbidden``: because of its permissions, not a disk fault or too many open
    files."""

    def __init__(self, path: bytes, error: OSError) -> None:
        super().__init__(path, f"cannot be read: {error.strerror}")
        self.forbidden = error.errno in (errno.EACCES, errno.EPERM)


class Opened:
    """A regular file, open for reading; must be closed. ``modified``: nanoseconds since 1970; ``real``: its resolved
    path."""

    __slots__ = ("fd", "modified", "path", "real", "size")

    def __init__(self, fd: int, path: bytes, about: os.stat_result, real: bytes) -> None:
        self.fd, self.path, self.real = fd, path, real
        self.size, self.modified = about.st_size, about.st_mtime_ns

    def close(self) -> None:
        """Close the file. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Roots:
    """Folders below which files may be sent. ``closed``: folders below which they may not.

    The innermost folder around a file decides: a tenant's own data can be open within the closed data of all.
    ``data``: the tenant's; if it belongs to a user id of the tenant's own, files that this id may not read are not sent
    either, although flyatc could."""

    def __init__(self, opened: Iterable[bytes], closed: Iterable[bytes] = (), data: bytes | None = None) -> None:
        self._folders = [(folder, True) for folder in opened] + [(folder, False) for folder in closed]
        self._data = data

    def hold(self, real: bytes) -> bool:
        """Return whether the file at the resolved path ``real`` may be sent.

        The folders are resolved at each call, since a deploy may switch a link to another release. Raises OSError if
        that fails."""
        real += b"/"  # so that a root itself counts as within: it is not a file, and needs no warning
        inmost, allowed = -1, False
        for folder, opened in self._folders:
            below = really(folder)
            if below is None or not real.startswith(below):
                continue
            if len(below) > inmost or (len(below) == inmost and not opened):
                inmost, allowed = len(below), opened
        return allowed

    def readable(self, real: bytes, about: os.stat_result) -> bool:
        """Return whether the tenant itself may read the file, by the modes. Raises OSError."""
        if self._data is None or (reader := _owner(self._data)) in (os.geteuid(), about.st_uid):
            return True
        above = [real[:at] or b"/" for at, octet in enumerate(real) if octet == ord("/")]
        return bool(about.st_mode & stat.S_IROTH) and all(
            one.st_uid == reader or one.st_mode & stat.S_IXOTH for one in map(os.stat, above)
        )


def _owner(folder: bytes) -> int:
    """Return the folder's user id; if it does not exist, and flyatc may give it to another: -1, which owns no file."""
    try:
        return Path(os.fsdecode(folder)).stat().st_uid
    except FileNotFoundError:
        return os.geteuid() or -1


def open_below(path: bytes, roots: Roots) -> Opened:
    """Open the regular file at the absolute ``path``. Links are followed; their target is checked.

    Raises Missing, Outside or Unreadable."""
    try:
        mark = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _fault(path, error) from error
    try:
        return _judged(path, mark, roots)
    except OSError as error:
        raise _fault(path, error) from error
    finally:
        os.close(mark)


def _judged(path: bytes, mark: int, roots: Roots) -> Opened:
    real = _real(mark)
    if not roots.hold(real):
        raise Outside(path, real)
    about = os.fstat(mark)
    if not stat.S_ISREG(about.st_mode):
        raise Missing(path, "is not a regular file")
    if not roots.readable(real, about):
        raise PermissionError(errno.EACCES, "the tenant's user id may not read it", path)
    if not about.st_nlink:
        raise Missing(path, "was just deleted")
    # The checked inode, whatever the path refers to by now.
    fd = os.open(b"/proc/self/fd/%d" % mark, os.O_RDONLY | os.O_CLOEXEC)
    return Opened(fd, path, os.fstat(fd), real)


def really(folder: bytes) -> bytes | None:
    """The resolved path of a folder or file, with a final slash; None if it does not exist."""
    try:
        mark = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    try:
        return _real(mark).rstrip(b"/") + b"/"
    finally:
        os.close(mark)


def _real(mark: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % mark)  # noqa: PTH115 - a Path holds no bytes


def _fault(path: bytes, error: OSError | ValueError) -> FileFault:
    if isinstance(error, ValueError):
        return Missing(path, "holds a NUL")
    if error.errno in _NOT_THERE:
        return Missing(path, "does not exist")
    return Unreadable(path, error)
