"""Folders for what nobody is to keep: gone afterwards, also when whoever made one was killed. Blocking, but quick."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flyatc.kit import durable

RESERVE = 64 << 20  # octets which others must still find on the disk


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """flock(2) on the folder itself: it ends with its process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class Scratch:
    """A fresh folder below ``own``/drills, for its owner only. ``own``: the daemon's. ``remove`` it."""

    def __init__(self, own: Path) -> None:
        durable.make_folder(own)
        parent = own / "drills"
        parent.mkdir(mode=0o700, exist_ok=True)
        with locked(parent):
            _sweep(parent)
            self.path = Path(tempfile.mkdtemp(prefix="drill-", dir=parent))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def lacks(self, octets: int) -> int:
        """How many octets of room are missing to hold so many; 0: none."""
        return max(0, octets + RESERVE - shutil.disk_usage(self.path).free)

    def clear(self) -> None:
        """Empties it."""
        for found in self.path.iterdir():
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(parent: Path) -> None:
    """Those whose makers are gone: nobody holds their locks any more."""
    for found in parent.glob("drill-*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(found, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
            finally:
                os.close(descriptor)
