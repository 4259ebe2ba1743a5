"""Addresses of unix sockets. Imports nothing heavy: commands must start fast."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A short name of ``path`` for a socket's address, which has 108 bytes (unix(7)), however deep the folder lies.

    Raises OSError if the folder cannot be opened."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
