"""Atomic, durable file replacement: write to a temporary file, fsync, rename, fsync the folder."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

Inode = tuple[int, int]  # device, number


def inode_of(path: Path) -> Inode | None:
    """Return what tells a file or folder from another one at the same path, and is the same by each path to it; None:
    there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def was_replaced(folder: Path, inode: Inode | None) -> bool:
    """Return whether another folder than the one with this inode is there now. None: it was not there before."""
    return inode is not None and inode_of(folder) not in (None, inode)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make renames and creations in the folder durable. The same system call as for a file."""
    sync_file(path)


def make_folder(path: Path) -> None:
    """Create the folder and its missing parents, each with mode 0700 and synced into its parent.

    ``Path.mkdir(mode=0o700, parents=True)`` would leave the parents readable for all. Folders that exist keep
    their mode.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_folder(path.parent)


def make_folder_private(path: Path) -> None:
    """Remove access of group and others from a folder of an earlier release. Does nothing where that is not allowed."""
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(mode & 0o700)


def open_private(path: str, flags: int) -> int:
    """Opener for ``open``: new files get mode 0600."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def write(path: Path, body: bytes) -> None:
    """Replace the file by ``body``, mode 0600. Its folder must exist. One writer at a time: ``<name>.new`` is used."""
    with _opened(path.parent) as folder:
        write_in(folder, path.name, body)


def write_in(folder: int, name: str, body: bytes) -> None:
    """Like ``write``, in the folder of this descriptor, whatever becomes of its path. A link called ``<name>.new`` is
    replaced, not followed."""
    _replace(folder, name, f"{name}.new", body)


def replace(path: Path, body: bytes, before: Callable[[], object]) -> None:
    """Replace a file of the operator's as a whole, with its mode, owner and extended attributes; one that is not there
    gets mode 0600. ``before``: called last before the replacement, may raise. Raises OSError; then the file is as it
    was. One writer at a time: ``.<name>.new`` is used."""
    with _opened(path.parent) as folder:
        _replace(folder, path.name, f".{path.name}.new", body, lambda made: _copy_attributes(path, made), before)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(
    folder: int,
    name: str,
    beside: str,
    body: bytes,
    prepare: Callable[[int], object] = lambda _: None,
    before: Callable[[], object] = lambda: None,
) -> None:
    """Write the file ``beside`` in a folder, and put it in the place of ``name``. ``prepare``: called with its
    descriptor; ``before``: called last."""
    _remove(folder, beside)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(beside, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(body)
            file.flush()
            prepare(file.fileno())
            os.fsync(file.fileno())
        before()
        os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _remove(folder, beside)
        raise
    os.fsync(folder)


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _copy_attributes(path: Path, descriptor: int) -> None:
    try:
        like = path.stat()
    except FileNotFoundError:
        return
    if (like.st_uid, like.st_gid) != (os.geteuid(), os.fstat(descriptor).st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
    for name in os.listxattr(path):  # such as access control lists
        with contextlib.suppress(OSError):  # some belong to the system
            os.setxattr(descriptor, name, os.getxattr(path, name))
