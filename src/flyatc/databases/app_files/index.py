"""Local index of a folder: metadata and hash of each file when it was last read or written.

A file with the same metadata is not read again. The index is a cache: without it, everything is read once.
"""

import errno
import hashlib
import os
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

from flyatc.databases import links
from flyatc.databases.app_files.manifest import File, Folder, Manifest, encode
from flyatc.databases.app_files.scan import Scan, Stat
from flyatc.databases.manifest import Link, Stamp

MOST = 256 << 20  # bytes


class Known(Struct, frozen=True, array_like=True):
    """A file as it was read. ``at``: as in manifest.File, if ``Index.link`` is known. ``sure``: a change since then
    shows in the stamp; else it is read again."""

    stamp: Stamp
    sha256: str
    at: str
    mode: int
    sure: bool = True


class Index(Struct, frozen=True, kw_only=True):
    """``link``: the save that has all of ``files``; None: unknown. ``over``: the newest save at the time when that one,
    which is older, was restored. ``swept``: Unix time of the last sweep."""

    v: int = 1
    link: Link | None = None
    over: Link | None = None
    swept: float = 0.0
    mode: int = 0
    folders: dict[str, int] = {}
    files: dict[str, Known] = {}

    def same(self, found: Scan) -> bool:
        """Return whether the folder is as it was, by its metadata."""
        return (
            self.mode == found.mode
            and self.folders == found.folders
            and self.files.keys() == found.files.keys()
            and all(is_known(self.files[path], seen) for path, seen in found.files.items())
        )

    def blobs(self) -> dict[str, str]:
        """Return the number of the save with each content, by hash."""
        return {one.sha256: one.at for one in self.files.values()}


def is_known(known: Known | None, seen: Stat) -> bool:
    return known is not None and known.sure and known.stamp == seen.stamp and known.mode == seen.mode


def known(seen: Stat, sha256: str, at: str) -> Known:
    """Return the entry of a file that was read after it was ``seen``, and had not changed."""
    return Known(seen.stamp, sha256, at, seen.mode, seen.settled)


def manifest_of(index: Index) -> Manifest:
    return Manifest(
        mode=index.mode,
        folders=[Folder(path=path, mode=mode) for path, mode in sorted(index.folders.items())],
        files=[
            File(path=path, sha256=one.sha256, at=one.at, size=one.stamp[1], mtime=one.stamp[2], mode=one.mode)
            for path, one in sorted(index.files.items())
        ],
    )


def digest(manifest: Manifest) -> str:
    """Return the sha256 of a manifest, as in its link."""
    return hashlib.sha256(encode(manifest)).hexdigest()


def read(path: Path) -> Index:
    """Read it. Empty if it is absent, damaged, or of another release; also if the app has put something else there.
    Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return Index()
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST:
            return Index()
        try:
            found = msgspec.json.decode(file.read(MOST), type=Index)
        except ValueError:
            return Index()
    return found if found.v == 1 else Index()


def write(path: Path, index: Index) -> None:
    """Replace it, durably. Raises OSError."""
    links.write(path, msgspec.json.encode(index))
