"""Files which are whole or not there, also after a power cut: written beside, synced, renamed, the folder synced."""

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Makes the renames and creations in it last. The same call as for a file; the name says what for."""
    sync_file(path)


def make_folder(path: Path) -> None:
    """The folder and those above it, each synced into its parent."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write(path: Path, body: bytes) -> None:
    """Replaces the file by ``body``. Its folder exists. One writer at a time: it writes ``<name>.new``."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)
