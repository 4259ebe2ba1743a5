"""Start a program for which the kernel follows no symbolic links in a folder.

litestream reads, by the daemon's rights, files that apps replace as they like. A look before it reads does not help: a
link may be there for a moment only. So its mounts are its own, and that of the tenants' folders refuses links:
mount_namespaces(7), MS_NOSYMFOLLOW of mount(2), Linux 5.10. It needs root, with the capability SYS_ADMIN."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

CLONE_NEWNS = 0x20000  # unshare(2)
MS_REMOUNT, MS_NOSYMFOLLOW, MS_BIND, MS_REC, MS_SLAVE = 0x20, 0x100, 0x1000, 0x4000, 0x80000  # mount(2)

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def call(function: Callable[[], T], folder: Path, refused: Callable[[OSError], None]) -> T:
    """Call the function, which starts a program, and return its result or raise its error. For what it starts, no links
    in ``folder`` are followed. ``refused`` is called first, with the reason, if that is not possible here."""
    outcome: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:  # a new thread, since unshare(2) changes the one that calls it, for ever
        try:
            _refuse_links(folder)
        except OSError as error:
            refused(error)
        try:
            outcome.append(function())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="start without links")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]


def _refuse_links(folder: Path) -> None:
    place = os.fsencode(folder.resolve())
    _checked(_libc.unshare(CLONE_NEWNS))
    _mount(b"none", b"/", MS_REC | MS_SLAVE)  # what is mounted later is seen, and nothing of ours outside
    _mount(place, place, MS_BIND | MS_REC)
    _mount(None, place, MS_REMOUNT | MS_BIND | MS_NOSYMFOLLOW)


def _mount(source: bytes | None, target: bytes, flags: int) -> None:
    _checked(_libc.mount(source, target, None, ctypes.c_ulong(flags), None))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
