"""Refuse links in a tenant's folder, and write the daemon's records there. Blocking.

The app may put a link where its database or the daemon's records belong. The daemon may read and write more than the
app, so it must not follow: it would save another tenant's database as this one's."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from flyatc.databases import local_files
from flyatc.kit import durable_files

OURS = ".flyatc"  # in a tenant's folder: the daemon's records
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MOST = 4 * 1024 * 1024  # bytes of a record: 100 databases have 50 KB
A_LINK = "it is a link, which an app could point at another tenant's file"


def prepare(data: Path, names: Iterable[str]) -> None:
    """Check for links, then prepare the folder of the daemon's records. Raises OSError."""
    names = [name for name in names if not name.startswith("!")]
    refuse(data, names)
    for pattern in names:  # ``*`` matches no slash in either
        refuse(data, (str(found.relative_to(data)) for found in data.glob(pattern)))
    with contextlib.suppress(FileNotFoundError):
        _adopt(data / OURS)
    local_files.prepare(data / OURS)


def _adopt(ours: Path) -> None:
    """Take the folder of the records over if it belongs to another user: an earlier daemon had another user id, or an
    app has made it anew. No process of the app runs, so what is in it can be looked at. Raises OSError."""
    if os.lstat(ours).st_uid == os.geteuid():
        return
    refuse(
        ours,
        (str(found.relative_to(ours)) for found in (*ours.iterdir(), *ours.glob("*/*"), *ours.glob("orphans/*/*"))),
    )
    os.chown(ours, os.geteuid(), os.getegid(), follow_symlinks=False)
    ours.chmod(0o700)


def refuse(data: Path, names: Iterable[str]) -> None:
    """Check that the records, the databases and what lies between are no links, and the databases and SQLite's files
    beside them regular files: to open a pipe may block for ever. ``data``: the tenant's folder. Raises OSError."""
    folders, files = {data / OURS, data / OURS / "orphans", data / OURS / "files"}, set[Path]()
    for name in names:
        path = data / name
        files.update((path, *(Path(f"{path}{end}") for end in local_files.BESIDE)))
        folders.update(path.parents[: len(Path(name).parts) - 1])
    for path in folders | files:
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, A_LINK, str(path))
        if path in files and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EINVAL, local_files.NO_FILE, str(path))


def make_workplace(folder: Path, what: str) -> Path:
    """Create a temporary folder on the file system of the databases. ``what``: restore or save."""
    name = f"{what}-{secrets.token_hex(4)}"
    with opened(folder) as descriptor:
        os.mkdir(name, 0o700, dir_fd=descriptor)
    return folder / name


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Open ``.flyatc`` in a tenant's folder, or a folder below it; make what is missing. Raises OSError.

    An app whose user id owns the tenant's folder may put another ``.flyatc`` in its place while it runs: links are not
    followed, and each folder must belong to the daemon. So what is created in this descriptor is created where no app
    with a user id of its own can change it."""
    inside = [folder, *folder.parents]
    inside = inside[: [one.name for one in inside].index(OURS) + 1][::-1]
    durable_files.make_folder(inside[0].parent)
    descriptor = os.open(inside[0].parent, FOLDER)
    try:
        for path in inside:
            above, descriptor = descriptor, _inner(descriptor, path)
            os.close(above)
        yield descriptor
    finally:
        os.close(descriptor)


def _inner(above: int, path: Path) -> int:
    try:
        if stat.S_ISLNK(os.lstat(path.name, dir_fd=above).st_mode):
            raise OSError(errno.ELOOP, A_LINK, str(path))
    except FileNotFoundError:
        os.mkdir(path.name, 0o700, dir_fd=above)
        os.fsync(above)
    inner = os.open(path.name, FOLDER | os.O_NOFOLLOW, dir_fd=above)
    if os.fstat(inner).st_uid == os.geteuid():
        return inner
    os.close(inner)
    raise OSError(errno.EPERM, "it belongs to another user than flyatc, perhaps an app has replaced it", str(path))


def is_foreign(folder: Path) -> bool:
    """Return whether an app has put the folder there, or a link: ``opened`` refuses it."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid()


def write(path: Path, body: bytes) -> None:
    """Replace a file of the daemon's records, durably; make its folder. See ``opened``. Raises OSError."""
    with opened(path.parent) as descriptor:
        durable_files.write_in(descriptor, path.name, body)


def read(path: Path) -> bytes:
    """Read a file of the daemon's records, which an app may have replaced. Raises OSError; ValueError if it is larger
    than any."""
    with local_files.opened(path, os.O_NOFOLLOW) as file:
        body = file.read(MOST + 1)
    if len(body) > MOST:
        raise ValueError(f"{path} is larger than {MOST} bytes")
    return body
