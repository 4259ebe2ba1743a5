"""Store on a local folder: ``FolderStore`` is async, ``Disk`` its blocking part.

Objects are files named by their keys. Beside them, in ``.flyatc``: ``id`` (identifies the folder, to notice that it
was unmounted), ``lock`` (``flock``, so that conditions hold between processes) and ``new`` (files being written).
Changes are made under the lock; readers need none, since files appear whole, by rename.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import BinaryIO

from flyatc.kit import durable_files
from flyatc.kit.threads import Tick
from flyatc.objects.store import SMALL, Absent, ConditionFailed, Seen, Stored, StoreRefused, StoreUnavailable, check_key
from flyatc.objects.threaded_store import SECONDS, Calls, ThreadedStore
from flyatc.observe.log import Log

HURRIED = 10.0  # s; a local disk under load may take longer to write than a bucket


class FolderStore(ThreadedStore):
    """Store on a folder, which several processes may use. ``open`` makes the folder if it is absent; if it vanishes
    later it is not made again: calls raise StoreUnavailable."""

    def __init__(self, root: Path, *, hurried: bool = False, log: Log | None = None) -> None:
        """``hurried``: calls are given up sooner, see HURRIED."""
        seconds = HURRIED if hurried else None
        calls = Calls("store", str(root), log, seconds=seconds, replace=lambda: None)
        super().__init__(Disk(root, 0.75 * (seconds or SECONDS)), calls)


CHUNK = 1 << 20
USELESS = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS})
LOCK_SECONDS = 30.0  # the lock is held for one rename: longer means that its holder hangs
LEFTOVER_SECONDS = 86400.0  # age from which a file in ``new`` is abandoned


class Disk:
    """Blocking operations on the folder."""

    def __init__(self, root: Path, patience: float = LOCK_SECONDS) -> None:
        """``patience``: seconds for the lock."""
        self._root, self._inner, self._patience = root, root / ".flyatc", patience
        self._id = b""

    def open(self) -> None:
        """Open the folder. Raises StoreRefused if only the operator can help, StoreUnavailable."""
        try:
            self._open()
        except StoreUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in USELESS:
                raise StoreRefused(f"{error}: correct storage.url, or the permissions there") from error
            raise

    def _open(self) -> None:
        with self._store_errors():
            durable_files.make_folder(self._inner / "new")
            (self._inner / "lock").touch(mode=0o600)
            with self._flock():
                if not (self._inner / "id").exists():
                    durable_files.write(self._inner / "id", uuid.uuid4().hex.encode())
                self._id = (self._inner / "id").read_bytes()
            for folder in self._root.iterdir():  # the root itself may be a mount point meant to be accessible
                if folder.is_dir():
                    durable_files.make_folder_private(folder)
            for leftover in (self._inner / "new").iterdir():
                if leftover.stat().st_mtime < time() - LEFTOVER_SECONDS:
                    leftover.unlink(missing_ok=True)

    # --- reading ---

    def get(self, key: str) -> tuple[bytes, str] | None:
        path = self._path(key)
        with self._store_errors():
            try:
                with path.open("rb") as file:
                    found = _read_small(file, key), _etag(file)
            except FileNotFoundError:
                found = None
            self._check_identity()
        return found

    def look(self, key: str) -> Seen | None:
        path = self._path(key)
        with self._store_errors():
            try:
                with path.open("rb") as file:
                    body, etag, written = _read_small(file, key), _etag(file), os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                self._check_identity()
                return None
            self._check_identity()
            return Seen(body, etag, max(0.0, self._now() - written))

    def head(self, key: str) -> Stored | None:
        path = self._path(key)
        with self._store_errors():
            try:
                found = _stored(key, path)
            except FileNotFoundError:
                found = None
            self._check_identity()
        return found

    def list(self, prefix: str, tick: Tick) -> tuple[Stored, ...]:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} does not end with a slash")
        folder = self._path(prefix.removesuffix("/"))
        found: list[Stored] = []
        with self._store_errors():
            for directory, _, names in os.walk(folder, onerror=_unless_absent):
                tick(len(found), 0)
                for name in names:
                    path = Path(directory, name)
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        found.append(_stored(path.relative_to(self._root).as_posix(), path))
            self._check_identity()
        return tuple(sorted(found, key=lambda stored: stored.key))

    def download(self, key: str, path: Path, tick: Tick) -> None:
        source = self._path(key)
        with self._store_errors():
            try:
                file = source.open("rb")
            except FileNotFoundError:
                self._check_identity()
                raise Absent(f"the store has no {key}") from None

        def read() -> bytes:
            with self._store_errors():
                return file.read(CHUNK)

        with file:
            with self._store_errors():
                self._check_identity()
            with path.open("xb") as copy:  # errors here are of the local disk, not the store
                _pour(read, copy, _size(file), tick)

    def download_by_full_key(self, key: str, path: Path, tick: Tick) -> None:
        """Download an object of another program. Leading slashes, which a folder's keys cannot have, are removed."""
        self.download(key.strip("/"), path, tick)

    # --- changing ---

    def put(self, key: str, body: bytes, *, create: bool, match: str | None) -> str:
        if len(body) > SMALL:
            raise ValueError(f"{key} has {len(body)} bytes: put is for {SMALL} at most, upload for the rest")
        path = self._path(key)
        with self._store_errors(), self._new_file() as (new, file):
            file.write(body)
            return self._move_into_place(new, file, path, create=create, match=match)

    def upload(self, key: str, source: Path, create: bool, tick: Tick) -> str:
        path = self._path(key)
        with self._store_errors(), self._new_file() as (new, file):
            with source.open("rb") as original:
                _pour(partial(original.read, CHUNK), file, _size(original), tick)
            return self._move_into_place(new, file, path, create=create, match=None)

    def delete(self, key: str, *, match: str | None = None) -> None:
        path = self._path(key)
        with self._store_errors(), self._lock(), contextlib.suppress(FileNotFoundError):
            self._condition(path, create=False, match=match)
            path.unlink()
            durable_files.sync_folder(self._pruned(path.parent))

    def _pruned(self, folder: Path) -> Path:
        """Remove ``folder`` and its parents while they are empty; return the first that is left. The lock must be
        held."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
        return folder

    def _move_into_place(self, new: Path, file: BinaryIO, path: Path, *, create: bool, match: str | None) -> str:
        file.flush()
        os.fsync(file.fileno())
        with self._lock():
            self._condition(path, create=create, match=match)
            durable_files.make_folder(path.parent)
            new.replace(path)
            durable_files.sync_folder(path.parent)
        return _etag(file)

    def _condition(self, path: Path, *, create: bool, match: str | None) -> None:
        name = path.relative_to(self._root)
        if create and path.exists():
            raise ConditionFailed(f"{name} exists already")
        if match is not None:
            try:
                with path.open("rb") as file:
                    found = _etag(file)
            except FileNotFoundError:
                raise ConditionFailed(f"{name} is not there any more") from None
            if found != match:
                raise ConditionFailed(f"{name} was changed by another writer")

    # --- paths, errors, lock ---

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    @contextlib.contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = error.filename or self._root
            raise StoreUnavailable(f"the store at {self._root} does not answer: {what}: {error.strerror}") from error

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        new = self._inner / "new" / uuid.uuid4().hex
        with open(new, "xb+", opener=durable_files.open_private) as file:
            try:
                yield new, file
            finally:
                new.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with self._flock():
            self._check_identity()
            yield

    @contextlib.contextmanager
    def _flock(self) -> Iterator[None]:
        descriptor = os.open(self._inner / "lock", os.O_RDWR)  # never created here: a vanished store stays vanished
        try:
            deadline, pause = monotonic() + self._patience, threading.Event()
            while not _locked(descriptor):
                if monotonic() > deadline:
                    raise StoreUnavailable(f"{self._inner / 'lock'} is held by another process, which may hang")
                pause.wait(0.002)
            yield
        finally:
            os.close(descriptor)

    def _now(self) -> float:
        """Return the time by the clock that stamps the files; on a network filesystem it is not ours."""
        os.utime(self._inner / "lock")
        return (self._inner / "lock").stat().st_mtime

    def _check_identity(self) -> None:
        """Raise StoreUnavailable unless this is the folder that was opened: only then is a missing file surely absent,
        and one that is there of this store. Where a folder is unmounted, litestream makes another in its place."""
        found = (self._inner / "id").read_bytes()
        if not self._id or found != self._id:
            raise StoreUnavailable(f"{self._root} is not the store it was: has something else been mounted there?")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _stored(key: str, path: Path) -> Stored:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        return Stored(key, status.st_size, _etag(file), status.st_mtime)


def _read_small(file: BinaryIO, key: str) -> bytes:
    body = file.read(SMALL + 1)
    if len(body) > SMALL:
        raise StoreUnavailable(f"{key} is larger than the {SMALL} bytes allowed")
    return body


def _etag(file: BinaryIO) -> str:
    """Return the etag: of the content for a small file, as in S3; else of inode and times, never used in a
    condition."""
    status = os.fstat(file.fileno())
    if status.st_size > SMALL:
        return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    file.seek(0)
    return hashlib.sha256(file.read()).hexdigest()


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _pour(read: Callable[[], bytes], target: BinaryIO, total: int, tick: Tick) -> None:
    done = 0
    while chunk := read():
        target.write(chunk)
        done += len(chunk)
        tick(done, total)
