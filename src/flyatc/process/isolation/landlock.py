"""Landlock (landlock(7)): restrict this process and all that it starts to named folders.

It is an allow-list, and a right on a folder holds for everything below. So a folder is kept from the app by granting
its siblings at every level of the path. ``run_root`` imports this module: it must stay small."""

import ctypes
import os
import struct

SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446  # on every architecture
VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE = (
    1 << bit for bit in range(6, 15)
)
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = (
    WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE
)
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
SCOPES = 3  # ABI 6: abstract unix sockets, signals
MOST_SIBLINGS = 10_000  # entries of one folder that are granted one by one; the others cannot be reached

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def version() -> int:
    """Return the ABI of this kernel; 0: it has no Landlock, or it is not enabled."""
    return max(0, int(_syscall(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)))


class Hidden:
    """Resolved paths that no grant from above reaches."""

    def __init__(self, paths: "list[bytes]") -> None:
        self.paths = frozenset(paths)
        self.above = frozenset(path[:end] or b"/" for path in paths for end in range(len(path)) if path[end] == 47)


class Ruleset:
    """Grants for this process. Raises OSError."""

    def __init__(self, abi: int) -> None:
        handled = READ | WRITE | MAKE_CHAR | MAKE_BLOCK
        if abi < 2:
            handled &= ~REFER  # it cannot be granted: files are never moved to another folder
        if abi < 3:
            handled &= ~TRUNCATE
        attributes = struct.pack("3Q", handled, 0, SCOPES)[: 24 if abi >= 6 else 8]
        self._handled = handled
        self._file = _checked(_syscall(SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))

    def grant(self, path: bytes, rights: int, hidden: "Hidden") -> None:
        """Grant rights on a resolved path and all below it. Below a folder that contains something hidden, on each
        sibling; then nothing can be created in the folder itself. Skips what does not exist."""
        if path in hidden.paths:
            return
        if path not in hidden.above:
            self.add(path, rights)
            return
        try:
            names = os.listdir(path)[:MOST_SIBLINGS]
        except OSError:
            return
        for name in names:
            below = path + name if path == b"/" else path + b"/" + name
            if not os.path.islink(below):  # its target has rights of its own
                self.grant(below, rights, hidden)

    def add(self, path: bytes, rights: int) -> None:
        """Grant rights on a path, whatever is hidden below it. Skips what does not exist."""
        try:
            opened = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.fstat(opened).st_mode & 0o170000 != 0o040000:
                rights &= OF_A_FILE
            rule = struct.pack("=Qi", rights & self._handled, opened)
            if rights & self._handled:
                _checked(_syscall(SYS_ADD_RULE, self._file, PATH_BENEATH, rule, 0))
        finally:
            os.close(opened)

    def enforce(self) -> None:
        """Restrict this thread; no_new_privs must be set."""
        _checked(_syscall(SYS_RESTRICT_SELF, self._file, 0))
        os.close(self._file)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
