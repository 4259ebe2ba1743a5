"""The files that the processes of a run have open for writing (proc_pid_fd(5), proc_pid_fdinfo(5)). Blocking: some
15 µs for each regular file."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flyatc.kit.durable_files import Inode
from flyatc.process import proc

MOST = 20_000  # descriptors read in one look
ACCESS_MODE = os.O_ACCMODE
BESIDE = ("-wal", "-shm", "-journal")  # files of SQLite beside a database


@dataclass(frozen=True)
class OpenFile:
    """``path``: as the process sees it, for messages; ``handle``: a path by which we can open the same file."""

    path: str
    handle: str
    identity: Inode
    changed: float  # Unix time


def read_open_files(pids: Iterable[int]) -> list[OpenFile]:
    """Return the regular files open for writing, each once, without those that SQLite keeps beside a database. What may
    not be read is left out."""
    found: dict[Inode, OpenFile] = {}
    left = MOST
    for pid in pids:
        folder = proc.PROC / str(pid) / "fd"
        try:
            names = [one.name for one in os.scandir(folder)]
        except OSError:  # it has ended, or is another user's
            continue
        for name in names[:left]:
            one = _open_file(folder, name)
            if one is not None:
                found.setdefault(one.identity, one)
        left -= min(left, len(names))
    return list(found.values())


def _open_file(folder: Path, name: str) -> OpenFile | None:
    handle = folder / name
    try:
        path = os.readlink(handle)  # noqa: PTH115 - a Path for each of many
        if not path.startswith("/") or path.startswith(("/dev/", "/proc/", "/sys/")) or path.endswith(BESIDE):
            return None
        flags = (folder.parent / "fdinfo" / name).read_text().partition("flags:")[2].split()[0]
        if int(flags, 8) & ACCESS_MODE == os.O_RDONLY:
            return None
        seen = handle.stat()
    except (OSError, ValueError, IndexError):  # closed meanwhile
        return None
    if not stat.S_ISREG(seen.st_mode) or not seen.st_nlink:
        return None
    return OpenFile(path, str(handle), (seen.st_dev, seen.st_ino), seen.st_mtime)
