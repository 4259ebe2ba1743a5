"""A network of its own for each worker: the workers' daemons, apps and servers cannot take each other's ports.

A test finds a free port, and the process that is to listen there binds it a moment later. With six workers, another
worker's process took such a port about once in a thousand tests. network_namespaces(7)."""

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNET = 0x40000000  # unshare(2)
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # netdevice(7)


_outside: list[str] = []


def enter() -> None:
    """Give this process, and all that it starts, a network with nothing but loopback; only root may: else do
    nothing. For a worker, before it starts anything."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        return
    _outside.extend(("nsenter", f"--net=/proc/{os.getppid()}/ns/net"))  # pytest's, which has started the worker
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def outside() -> list[str]:
    """Return the first words of a command that needs the machine's network."""
    return _outside
