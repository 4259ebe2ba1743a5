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
        folder = data / ".flyatc"
        try:
            durable.make_folder(folder)
            durable.close_folder(folder)
            durable.close_folder(data / "tenants")
            self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FlyatcError(f"the data folder {data} cannot be used: {error.strerror}. See server.data.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise FlyatcError(f"another flyatc runs on the data folder {data}: stop it, or set server.data") from error

    def release(self) -> None:
        os.close(self._file)
