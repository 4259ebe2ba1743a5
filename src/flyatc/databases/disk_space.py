"""Free space on the disk that a database is restored to. Blocking, but quick."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flyatc.databases import restore_failures
from flyatc.databases.restore_failures import Room
from flyatc.kit.errors import RestoreRefused


def look(path: Path, needed: int = 0) -> Room:
    """Return the space on the file system of ``path``, or of its nearest existing parent. Raises OSError."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    return Room(str(_mount(there)), str(path), shutil.disk_usage(there).free, needed)


def _mount(path: Path) -> Path:
    path = path.resolve()
    while path != path.parent and not os.path.ismount(path):
        path = path.parent
    return path


def seen(path: Path, needed: int = 0) -> Room | None:
    """As ``look``, but None if the file system cannot be queried."""
    try:
        return look(path, needed)
    except OSError:
        return None


@contextlib.contextmanager
def enough(who: str, place: Path, needed: int) -> Iterator[Room | None]:
    """Refuse a restore without enough room below ``place``, before anything is read. OSError inside becomes
    RestoreRefused, which names the disk and both sizes."""
    room = seen(place, needed)
    if room is not None and needed and room.short:
        full = OSError(errno.ENOSPC, "not started: no room")
        raise refused(who, full, room) from full
    try:
        yield room
    except OSError as error:
        raise refused(who, error, room or seen(place, needed)) from error


def refused(who: str, error: OSError, room: Room | None) -> RestoreRefused:
    words = str(error) if error.filename else (error.strerror or str(error))
    return RestoreRefused(
        f"{who} is not restored: {restore_failures.advice(restore_failures.of_error(error), words, room)}"
    )
