"""Refuse the processes of apps at the control socket: Landlock does not cover connect(2) on a path (Linux 6.18), and
an app may run as the same user as the daemon. And at the dashboard, where it has no password."""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Container, Iterator

from flyatc.process import members
from flyatc.process.listening_sockets import PROC_FILES
from flyatc.process.members import stat
from flyatc.process.ports import open_sockets

SO_PEERPIDFD = 77  # asm-generic/socket.h, Linux 6.5
DEEPEST = 1000  # generations
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; unix(7), SO_PEERCRED


def is_of_app(transport: asyncio.BaseTransport | None, ancestors: Container[int]) -> bool:
    """Return whether the process that made the connection descends from one of ``ancestors``: the daemon and its
    supervisor, which adopt all orphans of the apps. A process that has ended counts as one of an app."""
    return transport is None or has_app_as_peer(transport.get_extra_info("socket"), ancestors)


def has_app_as_peer(connection: socket.socket, ancestors: Container[int]) -> bool:
    """As ``is_of_app``, of a socket."""
    pid, _, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if pid == 0:  # outside of our pid namespace: apps cannot get there
        return False
    return descends(pid, ancestors) or _has_ended(connection)


def descends(pid: int, ancestors: Container[int]) -> bool:
    """Return True if the process has ended, or one of its ancestors, itself excluded, is among ``ancestors``."""
    for _ in range(DEEPEST):
        found = stat(pid)
        if found is None:
            return True
        pid = found[1]
        if pid in ancestors:
            return True
        if pid == 0:
            return False
    return True


def has_app_at(port: int, ours: int) -> bool:
    """Return whether a process of an app, of this daemon, has the TCP socket at ``port`` of this machine that is
    connected to our port ``ours``. In doubt it has. Blocking: milliseconds."""
    inode = next(_inodes(f":{port:04X}", f":{ours:04X}"), None)
    if inode is None:  # it was closed meanwhile
        return True
    try:
        below = members.descendants(os.getpid(), frozenset(), members.ProcessScan())
        return any(open_sockets(pid, frozenset({inode})) for pid in below)
    except PermissionError:
        return True


def _inodes(local: str, remote: str) -> Iterator[int]:
    """Yield the inodes of the connected sockets with these ports, as proc(5) writes them."""
    for _, path in PROC_FILES:
        with contextlib.suppress(OSError), path.open(encoding="ascii") as lines:
            for line in lines:
                fields = line.split()
                if fields[1].endswith(local) and fields[2].endswith(remote):
                    yield int(fields[9])


def _has_ended(connection: socket.socket) -> bool:
    """Check that the pid still meant the same process when its ancestors were read."""
    try:
        pidfd = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:  # an older kernel, or the process was reaped
        return False
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(pidfd)
