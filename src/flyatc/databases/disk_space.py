"""Free space of the disk below a folder, and the refusal of a restore that does not fit."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flyatc.databases.decisions import restore_failures
from flyatc.databases.decisions.restore_failures import Room
from flyatc.kit.errors import RestoreRefused


def free_space(path: Path, needed: int = 0) -> Room:
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


def free_space_or_none(path: Path, needed: int = 0) -> Room | None:
    """As ``free_space``, but None if the file system cannot be queried."""
    try:
        return free_space(path, needed)
    except OSError:
        return None


@contextlib.contextmanager
def require_free_space(who: str, place: Path, needed: int) -> Iterator[Room | None]:
    """Refuse a restore without enough room below ``place``, before anything is read. OSError inside becomes
    RestoreRefused, which names the disk and both sizes."""
    room = free_space_or_none(place, needed)
    if room is not None and needed and room.short:
        full = OSError(errno.ENOSPC, "not started: no room")
        raise restore_refusal(who, full, room) from full
    try:
        yield room
    except OSError as error:
        raise restore_refusal(who, error, room or free_space_or_none(place, needed)) from error


def restore_refusal(who: str, error: OSError, room: Room | None) -> RestoreRefused:
    words = str(error) if error.filename else (error.strerror or str(error))
    return RestoreRefused(
        f"{who} is not restored: {restore_failures.advice(restore_failures.of_error(error), words, room)}"
    )
