"""A private DNS as Fly's, for many.py: it costs little, so that it is not what is measured, and counts its questions.

Users f0, f1 … and ``far`` have a started machine, which is not the one that is measured; nobody else has any.
"""

import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Set

FAR, ADDRESS = "3d8dd15c1ed778", ipaddress.IPv6Address("fdaa:0:1:a7b:9::2")
_NIBBLES = ".".join(reversed(ADDRESS.exploded.replace(":", "")))
_TYPES = {b"\0\x1c": "AAAA", b"\0\x0c": "PTR", b"\0\x10": "TXT"}
_ANSWERED, _NO_SUCH_NAME = 0x8580, 0x8583  # a response with authority, recursion asked for and available (RFC 1035)
_RECORD = struct.Struct("!HHHIH")  # after the name, which points back to the question's


class Dns:
    """``silent``: it hears, and says nothing. ``asked``: questions by type, since it was looked at last."""

    def __init__(self, app: str, cores: Set[int]) -> None:
        self.silent = False
        self.asked: dict[str, int] = {}
        self._app, self._cores = app, cores
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="dns", daemon=True)
        self._thread.start()

    def look(self) -> dict[str, int]:
        """``asked``, which begins anew."""
        found, self.asked = self.asked, {}
        return found

    def _serve(self) -> None:
        os.sched_setaffinity(0, self._cores)  # of this thread
        while True:
            data, sender = self._socket.recvfrom(4096)
            name, end = _name(data)
            kind = _TYPES.get(data[end : end + 2], "other")
            self.asked[kind] = self.asked.get(kind, 0) + 1
            if not self.silent:
                self._socket.sendto(_answer(data, end + 4, self._found(name, kind)), sender)

    def _found(self, name: str, kind: str) -> bytes | None:
        """None: there is no such name; empty: it has nothing of that kind."""
        user = name.partition(".")[0]
        if name.endswith(f".kv._metadata.{self._app}.internal") and (user == "far" or user[1:].isdecimal()):
            return None if user[0] != "f" else ADDRESS.packed if kind == "AAAA" else b""
        if name == f"{_NIBBLES}.ip6.arpa":
            return _labels(f"{FAR}.vm.{self._app}.internal") if kind == "PTR" else b""
        return None


def _name(data: bytes) -> tuple[str, int]:
    """Of the first question, and where it ends."""
    labels, at = [], 12
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    return ".".join(labels), at + 1


def _labels(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def _answer(question: bytes, end: int, found: bytes | None) -> bytes:
    flags = _NO_SUCH_NAME if found is None else _ANSWERED
    head = question[:2] + struct.pack("!HHHHH", flags, 1, 1 if found else 0, 0, 0) + question[12:end]
    if not found:
        return head
    return head + _RECORD.pack(0xC00C, *struct.unpack("!HH", question[end - 4 : end]), 5, len(found)) + found
