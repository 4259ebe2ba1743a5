"""Free ports on 127.0.0.1 for apps, and the check that only processes of an app listen on its port.

A free port is chosen, but another process may bind it before the app does, or after the app has ended. Sockets are
identified by inode; ``/proc/PID/fd`` lists the inodes of a process."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import monotonic

from flyatc.kit.errors import StartFailed
from flyatc.process import proc
from flyatc.process.listening_sockets import Listener, SocketTable

LOOK_AGAIN = 5.0  # s
QUICK_FDS = 256  # descriptors of the leader that are read on the event loop; for more of them a thread is used
MOST_FDS = 1 << 20  # the kernel's own default limit for one process (fs.nr_open)
COMMAND_LINE = 120  # characters of a stranger's command line that are shown


class Verdict(Enum):
    UNUSED = "unused"  # no socket listens
    OURS = "ours"
    STRANGER = "stranger"  # a process outside of the run holds one
    UNKNOWN = "unknown"  # a process of the run may hold it, but its descriptors cannot be read


@dataclass(frozen=True)
class Owner:
    verdict: Verdict
    reason: str = ""  # for STRANGER and UNKNOWN: a sentence for the operator


class StrangerListens(ConnectionRefusedError):
    """No process of the run holds the port; nothing was sent. Counts as a refused connection."""


class PortOwner:
    """The check for one run. ``leader``: the pid of its first process; ``members`` lists the pids of all."""

    def __init__(
        self,
        port: int,
        leader: int,
        members: Callable[[], Iterable[int]],
        sockets: SocketTable,
        setting: str = "app.verify_port: false",
        user: int | None = None,
    ) -> None:
        """``user``: the user id that only processes of this tenant have; None: there is none."""
        self._user = user
        self._setting = setting  # turns this check off; for messages
        self._port, self._leader, self._members, self._sockets = port, leader, members, sockets
        self._proved: frozenset[int] = frozenset()  # inodes that were found in processes of the run
        self._looked_at = 0.0
        self.stranger: str | None = None  # the reason of the last refusal

    def doubt(self) -> None:
        """Check the next connection in full, since one was refused."""
        self._proved = frozenset()

    async def admit(self, host: str = "127.0.0.1") -> None:
        """Check a new connection to ``host`` before a byte is sent. Raises StrangerListens.

        A port cannot change hands while a socket listens. So the socket that listens now also did when the connection
        was made, and it suffices that it was checked before. Only SO_REUSEPORT lets another socket of the same user
        join: all are listed again after LOOK_AGAIN."""
        if self._proved and not self._sockets.fast:
            return  # reading all sockets is too much for each connection
        fresh = self._proved and monotonic() < self._looked_at + LOOK_AGAIN
        if fresh and self._sockets.receiver(host, self._port) in self._proved:
            return
        owner = await self.look(host)
        if owner.verdict is Verdict.UNUSED:
            raise StrangerListens(f"port {self._port} is not listened on any more")
        if owner.verdict is not Verdict.OURS:
            raise StrangerListens(owner.reason)

    async def look(self, host: str = "127.0.0.1") -> Owner:
        """Run the full check: all listening sockets, and all processes of the run."""
        try:
            found = self._sockets.listeners(host, self._port)
        except OSError as error:
            return self._refuse(Verdict.UNKNOWN, f"the listening sockets cannot be read ({error}): set {self._setting}")
        inodes = frozenset(one.inode for one in found)
        if not found:
            return Owner(Verdict.UNUSED)
        if self._user is not None and all(one.uid == self._user for one in found):
            return self._accept(inodes)
        if inodes <= self._proved or not inodes - _held(self._leader, inodes, QUICK_FDS):
            return self._accept(inodes)
        missing, hidden = await asyncio.to_thread(self._missing, inodes)
        if missing:  # scanned twice: a process that forks and ends during the first scan is missed with its child
            missing, hidden = await asyncio.to_thread(self._missing, inodes)
        if not missing:
            return self._accept(inodes)
        still = self._sockets.listeners(host, self._port)
        if not missing & {one.inode for one in still}:  # it has gone meanwhile
            return Owner(Verdict.UNUSED)
        return await asyncio.to_thread(self._explain, [one for one in found if one.inode in missing], hidden)

    def _missing(self, inodes: frozenset[int]) -> tuple[frozenset[int], list[int]]:
        """Return the inodes that no process of the run holds, and the pids whose descriptors cannot be read."""
        missing, hidden = inodes, []
        for pid in (self._leader, *self._members()):
            try:
                missing -= open_sockets(pid, missing)
            except PermissionError:
                hidden.append(pid)
            if not missing:
                break
        return missing, hidden

    def _explain(self, strangers: list[Listener], hidden: list[int]) -> Owner:
        inodes = frozenset(one.inode for one in strangers)
        for process in proc.scan():
            try:
                if open_sockets(process.pid, inodes):
                    who = f"pid {process.pid}, {command_line(process.pid)}"
                    break
            except PermissionError:
                continue
        else:
            if hidden:
                return self._refuse(
                    Verdict.UNKNOWN,
                    f"it cannot be determined which process listens on port {self._port}: the descriptors of pid "
                    f"{hidden[0]}, a process of this app, cannot be read. Run the app as flyatc's user, give flyatc "
                    f"the capability SYS_PTRACE, or set {self._setting}",
                )
            who = f"a process that cannot be seen from here, of user id {strangers[0].uid}"
        return self._refuse(
            Verdict.STRANGER,
            f"port {self._port} is listened on by another process ({who}), which is not of this app. If it does serve "
            f"this app (docker run, a service manager), set {self._setting}",
        )

    def _accept(self, inodes: frozenset[int]) -> Owner:
        self._proved, self._looked_at, self.stranger = inodes, monotonic(), None
        return Owner(Verdict.OURS)

    def _refuse(self, verdict: Verdict, reason: str) -> Owner:
        self._proved, self.stranger = frozenset(), reason
        return Owner(verdict, reason)


def _held(pid: int, inodes: frozenset[int], at_most: int) -> frozenset[int]:
    """Like ``open_sockets``, but return nothing if the descriptors cannot be read."""
    try:
        return open_sockets(pid, inodes, at_most)
    except PermissionError:
        return frozenset()


def open_sockets(pid: int, inodes: frozenset[int], at_most: int = MOST_FDS) -> frozenset[int]:
    """Return the sockets among ``inodes`` that a process has open. Raises PermissionError if it may not be read."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: set[int] = set()
    try:
        with os.scandir(proc.PROC / str(pid) / "fd") as descriptors:
            for count, one in enumerate(descriptors):
                if count >= at_most:
                    break
                try:
                    inode = wanted.get(os.readlink(one.path))  # noqa: PTH115 - a Path for each of many
                except FileNotFoundError:  # closed meanwhile
                    continue
                if inode is not None:
                    found.add(inode)
                    if len(found) == len(wanted):
                        break
    except (FileNotFoundError, ProcessLookupError):
        pass
    return frozenset(found)


def listening(pids: Iterable[int], sockets: SocketTable) -> list[Listener]:
    """Return the listening sockets that these processes hold, as far as they can be read. Raises OSError."""
    found = {one.inode: one for one in sockets.all()}
    held: frozenset[int] = frozenset()
    for pid in pids:
        with contextlib.suppress(PermissionError):
            held |= open_sockets(pid, frozenset(found) - held)
    return [found[inode] for inode in sorted(held)]


def command_line(pid: int) -> str:
    """Return the start of a command line for messages: one line of printable characters."""
    try:
        with (proc.PROC / str(pid) / "cmdline").open("rb") as file:
            words = file.read(4 * COMMAND_LINE).rstrip(b"\0").split(b"\0")
    except OSError:
        return "its command line cannot be read"
    text = " ".join(word.decode(errors="replace") for word in words)
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)[:COMMAND_LINE]
    return f"`{shown}`" if shown else "without a command line"


FIRST = 20000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
CONTESTED = 60.0  # s; how long a port that another process has taken is not handed out
LEAST = 1000  # smallest usable range


class PortPool:
    """Hands out ports below the kernel's ephemeral range. Otherwise an outgoing connection could take a port before
    the child binds it. Ports are taken in turn from a random start, so that a returned port is not reused soon (its
    last connections are in TIME_WAIT) and two daemons rarely collide."""

    def __init__(
        self, first: int | None = None, end: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """Use ports from ``first`` up to but not including ``end``. Default: from 20000 to the ephemeral range."""
        default = _range()
        self._first, self._end = first or default[0], end or default[1]
        self._next = random.randrange(self._first, self._end)  # noqa: S311  # spread, not secrecy
        self._taken: set[int] = set()
        self._contested: dict[int, float] = {}  # until when
        self._clock = clock

    def take(self) -> int:
        """Return a port that is neither handed out nor in use. Raises StartFailed if there is none."""
        for _ in range(self._end - self._first):
            port = self._next
            self._next = port + 1 if port + 1 < self._end else self._first
            if port not in self._taken and not self._resting(port) and _free(port):
                self._taken.add(port)
                return port
        raise StartFailed(
            f"no port between {self._first} and {self._end - 1} is free for another app: "
            "lower limits.running, or end the processes that use them"
        )

    def give_back(self, port: int, *, contested: bool = False) -> None:
        """Return a port. ``contested``: another process has taken it; it is not handed out for CONTESTED seconds."""
        self._taken.discard(port)
        if contested:
            self._contested[port] = self._clock() + CONTESTED

    def _resting(self, port: int) -> bool:
        until = self._contested.get(port)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._contested[port]
        return False


def _range() -> tuple[int, int]:
    try:
        low, high = (int(word) for word in EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    if low >= FIRST + LEAST:
        return FIRST, low
    if high + LEAST <= 65536:  # the kernel's range was moved down: use the ports above it
        return high + 1, 65536
    return FIRST, 32768  # it leaves no room: a clash is possible, but then the start fails with an error


def _free(port: int) -> bool:
    """Return whether the port can be bound without SO_REUSEADDR on all addresses. It cannot if any socket is bound to
    it on any address, or while old connections linger. ip(7), socket(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # never listens
        except OSError:
            return False
    return True
