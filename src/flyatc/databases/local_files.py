"""The local files of a database: inspect them, set them aside, replace them, and pack or unpack a copy. Blocking.

A packed database is one zstd frame with its content size and checksum. Packing needs a few megabytes of memory,
whatever the size.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time, time_ns
from typing import BinaryIO

import zstandard

from flyatc.databases.decisions.keep_or_restore import Here
from flyatc.databases.manifest import Signature, Stamp
from flyatc.kit import durable_files
from flyatc.kit.threads import Tick

NO_FILE = "it is no regular file, but a folder, a pipe, a socket or a device: move it away"
HEADER = b"SQLite format 3\0"
WRITE_VERSION, HEADER_END = 18, 20  # sqlite.org/fileformat2.html, 1.3
BESIDE = ("-wal", "-shm", "-journal")  # sqlite.org/tempfiles.html
SECOND = 1_000_000_000
TICK = 20_000_000  # ns; file times move on by the kernel's tick, 10 ms at most


def opened(path: Path, flags: int = 0) -> BinaryIO:
    """Open for reading what an app may have put there: a pipe would block the thread for ever. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, NO_FILE, str(path))


def look(path: Path) -> Here:
    """Classify the file. Only while no app runs, since it opens the file. Raises OSError, also if it is no file."""
    try:
        with opened(path) as file:
            head = file.read(len(HEADER))
    except FileNotFoundError:
        return Here.ABSENT
    if not head:
        return Here.EMPTY
    return Here.SQLITE if head == HEADER else Here.OTHER


def format_version(path: Path) -> int:
    """Return 2 for WAL, 1 for another journal mode, 0 if there is no database yet. Only while SQLite does not have it
    open in this process: see ``sqlite``. Raises OSError."""
    try:
        with opened(path) as file:
            head = file.read(HEADER_END)
    except FileNotFoundError:
        return 0
    return head[WRITE_VERSION] if len(head) == HEADER_END and head.startswith(HEADER) else 0


def signature(path: Path) -> Signature:
    """Return the stat signature, which differs whenever the content does, if ``settled``. Opens nothing."""
    return _stamp(path), _stamp(Path(f"{path}-wal")), _stamp(Path(f"{path}-journal"))


def settled(found: Signature) -> bool:
    """Return whether a later write will change it: not within one tick of the file system's clock, nor while a time
    lies in the future, since the clock may reach it again."""
    times = [stamp[2] for stamp in found if stamp is not None]
    tick = 2 * SECOND if all(t % SECOND == 0 for t in times) else TICK
    return time_ns() - max(times, default=0) > tick


def date_back(path: Path) -> None:
    """Give files of a database whose time lies in the future a past one: they were copied from elsewhere, or the clock
    was set back. Call it before a look and a copy: a later write then changes the signature for certain, and what was
    written before is in the copy. Opens nothing."""
    now = time_ns()
    for one in (path, Path(f"{path}-wal"), Path(f"{path}-journal")):
        with contextlib.suppress(OSError):  # then the file counts as changed until the clock has passed its time
            if (seen := os.lstat(one)).st_mtime_ns > now:
                os.utime(one, ns=(seen.st_atime_ns, now - 2 * SECOND), follow_symlinks=False)


def clock() -> float:
    """Return the seconds by which the clock is ahead of the one that is never set: fewer after it was set back."""
    return time() - monotonic()


async def tick() -> None:
    """Wait until the file system's clock has moved on."""
    await asyncio.sleep(TICK / SECOND)


def untouched(before: Signature | None, after: Signature) -> bool:
    """Return whether nothing was written between the two. The ctime is ignored: as root, SQLite sets the owner of a WAL
    that it opens. An empty WAL, as a reader leaves it, counts as none."""
    return before is not None and [_content(one) for one in before] == [_content(one) for one in after]


def _content(stamp: Stamp | None) -> tuple[int, ...] | None:
    return stamp[:3] if stamp is not None and stamp[1] else None


def newest(found: Iterable[Stamp | None]) -> float:
    """Return the Unix time of the last change."""
    return max((stamp[2] for stamp in found if stamp is not None), default=0) / SECOND


def newest_past(found: Signature) -> float:
    """Return the Unix time of the last change that is known: a time in the future says nothing."""
    now = time_ns()
    return newest(stamp for stamp in found if stamp is not None and stamp[2] <= now)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def size(path: Path) -> int:
    return path.stat().st_size


def size_below(folder: Path) -> int:
    """Return the size of all files in a folder, without links."""
    found = (os.lstat(Path(above, name)) for above, _, names in os.walk(folder) for name in names)
    return sum(one.st_size for one in found if stat.S_ISREG(one.st_mode))


def wal_size(path: Path) -> int:
    """Return the size of its WAL; 0: there is none."""
    try:
        return size(Path(f"{path}-wal"))
    except OSError:
        return 0


def put_in_place(new: Path, path: Path, folder: Path) -> Path | None:
    """Move ``new``, complete and synced, to ``path``. Return where the old files were moved to; None: there were none.

    A crash at any point leaves the old files complete, here or aside, and at ``path`` the old, nothing, or the new."""
    aside = set_aside(path, folder)
    durable_files.make_folder(path.parent)
    past = time_ns() - 2 * SECOND  # so that the first write of the app changes the signature, however soon
    os.utime(new, ns=(past, past))
    new.replace(path)
    durable_files.sync_folder(path.parent)
    return aside


def set_aside(path: Path, folder: Path) -> Path | None:
    """Move the database and SQLite's files beside it to ``folder``/orphans/TIME. None: there was nothing.

    The database is moved first, so that it is never left without its WAL. A WAL alone is as dangerous: SQLite would
    replay it into the next database of that name."""
    there = [found for found in (path, *(Path(f"{path}{end}") for end in BESIDE)) if found.exists()]
    if not there:
        return None
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    orphans = folder / "orphans"
    durable_files.make_folder(orphans)
    aside = Path(tempfile.mkdtemp(prefix=f"{now}-", dir=orphans))
    durable_files.sync_folder(orphans)
    for found in there:
        found.rename(aside / found.name)
    durable_files.sync_folder(aside)
    durable_files.sync_folder(path.parent)
    return aside


def copy_seed(seed: Path, new: Path) -> None:
    """Copy and sync a seed. Raises OSError; ValueError if the seed is being written or was not closed cleanly."""
    for end in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            if end != "-shm" and Path(f"{seed}{end}").stat().st_size:
                raise ValueError(f"there is a {seed.name}{end} beside it: close the program which has it open")
    shutil.copyfile(seed, new)
    durable_files.sync_file(new)


def remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


def prepare(folder: Path) -> None:
    """Create the tenant's folder and ``.flyatc`` in it, and remove temporary folders of earlier crashes."""
    durable_files.make_folder(folder)
    for what in ("restore", "save"):
        for place in folder.glob(f"{what}-*"):
            remove(place)


def unwritten(data: Path) -> bool:
    """Return whether the tenant's folder has only empty files and our record of them. Raises OSError."""
    ours = data / ".flyatc" / "databases.json"
    for folder, _, names in os.walk(data, onerror=_unless_absent):
        for path in (Path(folder, name) for name in names):
            if path != ours and (path.is_symlink() or not path.is_file() or path.stat().st_size):
                return False
    return True


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def remove_tenant(data: Path) -> None:
    """Remove its folder, and the user's if that was the last one. Durable on return. Raises OSError."""
    if data.exists():
        shutil.rmtree(data)
        durable_files.sync_folder(data.parent)
    with contextlib.suppress(OSError):
        data.parent.rmdir()
        durable_files.sync_folder(data.parent.parent)


def orphans(folder: Path) -> list[Path]:
    """Return the folders that ``set_aside`` has made, oldest first."""
    return sorted((folder / "orphans").glob("*"))


CHUNK = 1 << 18
LEVEL = 3
CHECKSUM = 4  # bytes
HEAD = 18  # bytes of a frame's head, at most (RFC 8878)
WINDOW = 1 << 23  # bytes; level 3 needs a quarter of it


class Damaged(Exception):
    """The packed file is not a complete, intact frame; the text is the reason."""


def digest(path: Path, tick: Tick) -> str:
    """Return the sha256, in hexadecimal."""
    found, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            done += len(chunk)
            tick(done, total)
    return found.hexdigest()


def pack(source: Path, target: Path, tick: Tick) -> None:
    """Compress ``source`` into ``target``, which is new."""
    done, total = 0, source.stat().st_size
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=total)
    with source.open("rb") as raw, target.open("xb") as packed:
        while chunk := raw.read(CHUNK):
            packed.write(packer.compress(chunk))
            done += len(chunk)
            tick(done, total)
        packed.write(packer.flush())


def pack_folder(source: Path, target: Path, tick: Tick) -> None:
    """Compress a folder into ``target``, which is new, as a tar archive of its regular files and folders."""
    import tarfile  # imported late: most daemons never need it

    done = 0

    def chosen(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal done
        done += member.size
        tick(done, 0)
        return member if member.isreg() or member.isdir() else None

    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with (
        target.open("xb") as file,
        packer.stream_writer(file) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(source, source.name, filter=chosen)


def unpack(source: Path, target: Path, size: int | None, tick: Tick) -> str:
    """Unpack into ``target``, which is new, sync it, and return its sha256. ``size``: of the database, if known.

    Raises Damaged: not one complete zstd frame, flipped bits, or another size than declared; OSError before anything
    is written if the disk has no room for the declared size: a few bytes can unpack to more than any disk holds."""
    found, done = hashlib.sha256(), 0
    with source.open("rb") as packed, target.open("xb") as raw:
        try:
            head = packed.read(HEAD)
            declared = zstandard.frame_content_size(head)
            if declared <= 0 or (size is not None and declared != size):
                raise Damaged(f"it declares {declared} bytes, not {size or 'a database'}")
            if declared > shutil.disk_usage(target.parent).free:
                raise OSError(errno.ENOSPC, f"not started: no room for {declared} bytes", str(target))
            _check_whole(packed, head)
            packed.seek(0)
            reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(packed)
            while done <= declared and (chunk := reader.read(CHUNK)):
                raw.write(chunk)
                found.update(chunk)
                done += len(chunk)
                tick(done, declared)
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from error
        if done != declared:
            raise Damaged(f"it holds {done} bytes, not {declared}")
        raw.flush()
        os.fsync(raw.fileno())
    return found.hexdigest()


def _check_whole(packed: BinaryIO, head: bytes) -> None:
    """Walk the block headers to the end of the frame. The decoder does not notice that the checksum was cut off, and
    without it flipped bits would go unnoticed. Raises Damaged, zstandard.ZstdError."""
    if not zstandard.get_frame_parameters(head).has_checksum:
        raise Damaged("it has no checksum")
    place, last = zstandard.frame_header_size(head), False
    while not last:
        packed.seek(place)
        header = packed.read(3)
        if len(header) < 3:
            raise Damaged("it is broken off")
        block = int.from_bytes(header, "little")
        last, repeats = bool(block & 1), (block >> 1) & 3 == 1
        place += 3 + (1 if repeats else block >> 3)
    packed.seek(0, os.SEEK_END)
    if packed.tell() != place + CHECKSUM:
        raise Damaged("it is broken off" if packed.tell() < place + CHECKSUM else "something follows its frame")
