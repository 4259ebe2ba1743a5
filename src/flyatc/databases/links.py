"""Refuse links in a tenant's folder. Blocking.

The app may put a link where its database or the daemon's records belong. The daemon may read and write more than the
app, so it must not follow: it would save another tenant's database as this one's."""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from flyatc.databases import local_files

OURS = ".flyatc"


def prepare(data: Path, names: Iterable[str]) -> None:
    """Check for links, then prepare the folder of the daemon's records. Raises OSError."""
    names = [name for name in names if not name.startswith("!")]
    refuse(data, names)
    for pattern in names:  # ``*`` matches no slash in either
        refuse(data, (str(found.relative_to(data)) for found in data.glob(pattern)))
    local_files.prepare(data / OURS)


def refuse(data: Path, names: Iterable[str]) -> None:
    """Check that the records, the databases and what lies between are no links. ``data``: the tenant's folder.
    Raises OSError (ELOOP) otherwise."""
    checked: set[Path] = {data / OURS}
    for name in names:
        path = data / name
        checked.update((path, *(Path(f"{path}{end}") for end in local_files.BESIDE)))
        checked.update(path.parents[: len(Path(name).parts) - 1])
    for path in checked:
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "it is a link, which an app could point at another tenant's file", str(path))
