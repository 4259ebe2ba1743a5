"""Where the daemon and its commands meet: a socket in the folder of the running databases."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def socket_of(data: str | Path) -> Path:
    """``data``: server.data, absolute."""
    return Path(data) / ".flyatc" / "control.sock"


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits a socket's address, which has 108 bytes (unix(7)), however deep the folder lies.

    Raises OSError when the folder cannot be reached."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
