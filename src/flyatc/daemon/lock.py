"""One daemon per data folder."""

import fcntl
import os
from pathlib import Path

from flyatc.kit import durable
from flyatc.kit.errors import FlyatcError


class DataLock:
    """Held until ``release`` or the process's end (flock(2)): nobody else runs apps on these databases."""

    def __init__(self, data: Path) -> None:
        """Makes the folder. Raises FlyatcError when it is taken or cannot be made."""
        self._data = data
        self._file, self._folder = self._take()

    def _take(self) -> tuple[int, int]:
        """The locked file, and the inode of its folder."""
        folder = self._data / ".flyatc"
        try:
            durable.make_folder(folder)
            durable.close_folder(folder)
            durable.close_folder(self._data / "tenants")
            file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FlyatcError(
                f"the data folder {self._data} cannot be used: {error.strerror}. See server.data."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_at(file):
                raise FlyatcError(f"the data folder {self._data} was deleted just now: try again")
            return file, folder.stat().st_ino
        except OSError as error:
            os.close(file)
            raise FlyatcError(
                f"another flyatc runs on the data folder {self._data}: stop it, or set server.data"
            ) from error

    def _is_at(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), (self._data / ".flyatc" / "lock").stat())
        except OSError:
            return False

    def holds(self) -> bool:
        """Whether the folder's lock is still the one that we hold: a deleted file keeps nobody out. Cheap."""
        return self._is_at(self._file)

    def same_folder(self) -> bool:
        """Whether the folder is the one that was locked, whatever became of the lock in it."""
        try:
            return (self._data / ".flyatc").stat().st_ino == self._folder
        except OSError:
            return False

    def retake(self) -> None:
        """Locks the folder that is there now, or makes it. Raises FlyatcError as at first; then nothing has changed."""
        file, folder = self._take()
        os.close(self._file)
        self._file, self._folder = file, folder

    def release(self) -> None:
        os.close(self._file)
