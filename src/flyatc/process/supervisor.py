"""The supervisor: a small separate process, one per daemon. It starts the apps, and kills them when the lease ends.

It does not depend on the daemon's event loop: it enforces the deadline even if the daemon is stopped (SIGSTOP), stuck
or dead. It runs with ``python -I -S`` and imports little, so it starts in 15 ms.

Messages from the daemon (SOCK_SEQPACKET; fields separated by NUL):

    start    MARK CGROUP                       with four descriptors: launch, stdout, stderr, report; or five: stdin
    start    MARK CGROUP terminal              with five; stdin becomes the controlling terminal
    adopt    MARK CGROUP ROOT STARTED SPARED…  a run that another supervisor, or the daemon, has started
    drop     MARK                              no process of that run is left
    deadline SECONDS                           on CLOCK_BOOTTIME: all runs are killed then, unless a new one follows;
                                               not those whose mark begins with WITHOUT_LEASE

A run reports through its own pipe (see ``run_root``). The supervisor sends the daemon only one message, for its log:

    killed   COUNT                             the number of runs killed because the deadline has passed

When the daemon is gone, all runs are ended: SIGTERM, GRACE seconds, SIGKILL. They get no requests any more, and the
next daemon must not wait for them."""

import os
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Iterable

from flyatc.process import run_root
from flyatc.process.isolation import confine
from flyatc.process.members import WITHOUT_LEASE, ProcessScan, Target, kill, send, stat

TICK = 0.5  # s; poll(2) does not count the time that the machine sleeps: the clock is read at least this often
AGAIN = 0.02  # s; from one SIGKILL to the next check
GRACE = 5.0  # s; after the daemon's death, from SIGTERM to SIGKILL
PATIENCE = 30.0  # s; after the daemon's death, until the supervisor gives up
MESSAGE = 1 << 16  # bytes
FILES = 5  # descriptors with a message, at most
FOREVER = float("inf")
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Supervisor:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._runs: dict[str, Target] = {}
        self._condemned: set[str] = set()
        self._deadline = FOREVER
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Handle messages until the daemon closes the channel or dies, then end all runs."""
        while self._listen(self._pause()):
            self._judge()
        self._end_all()

    def _pause(self) -> float:
        if self._condemned:
            return AGAIN
        if not self._leased() or self._deadline == FOREVER:
            return FOREVER
        return max(0.0, min(TICK, self._deadline - boottime()))

    def _judge(self) -> None:
        if boottime() >= self._deadline and (new := self._leased() - self._condemned):
            self._condemned |= new
            self._send(f"killed\0{len(new)}")
        if self._condemned:
            kill([self._runs[mark] for mark in self._condemned])
            self._forget_ended(self._condemned)

    def _leased(self) -> set[str]:
        """Return the runs that end with the lease."""
        return {mark for mark in self._runs if not mark.startswith(WITHOUT_LEASE)}

    def _forget_ended(self, marks: Iterable[str]) -> None:
        look = ProcessScan()
        for mark in list(marks):
            target = self._runs[mark]
            if not target.rooted() and not target.find(look):
                self._drop(mark)

    def _drop(self, mark: str) -> None:
        self._runs.pop(mark, None)
        self._condemned.discard(mark)

    def _listen(self, pause: float) -> bool:
        """Handle all queued messages, so that a new deadline counts before the old one is checked. False: closed."""
        self._poll.poll(None if pause == FOREVER else pause * 1000)
        while True:
            try:
                data, files = self._receive()
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            try:
                self._handle(data.decode("utf-8", "surrogateescape").split("\0"), files)
            finally:
                for file in files:
                    os.close(file)

    def _send(self, message: str) -> None:
        try:
            self._channel.send(message.encode(), socket.MSG_DONTWAIT)
        except OSError:  # the daemon is gone, or has not read for long: killing is what matters
            return

    def _receive(self) -> tuple[bytes, list[int]]:
        """Receive a message and its descriptors. Not by socket.recv_fds, which ignores its flags in some versions of
        Python: without CLOEXEC the apps would inherit the descriptors."""
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = self._channel.recvmsg(MESSAGE, socket.CMSG_LEN(FILES * 4), flags)
        return data, [file for _, _, packed in ancillary for file in struct.unpack(f"{len(packed) // 4}i", packed)]

    def _handle(self, words: list[str], files: list[int]) -> None:
        match words:
            case ["start", mark, cgroup, *terminal]:
                self._start(mark, cgroup, files, terminal=bool(terminal))
            case ["adopt", mark, cgroup, root, started, *spared]:
                self._runs[mark] = Target(int(root), int(started), mark, cgroup, map(int, spared))
            case ["drop", mark]:
                self._drop(mark)
            case ["deadline", seconds]:
                self._deadline = float(seconds)

    def _start(self, mark: str, cgroup: str, files: list[int], *, terminal: bool) -> None:
        launch, stdout, stderr, report, *stdin = files
        try:
            pid = os.fork()
        except OSError as error:
            run_root.send_report(report, run_root.failed(error.errno))
            return
        if pid == 0:
            self._channel.close()  # the daemon sees the supervisor's death when the last copy is closed
            run_root.run(launch, run_root.Streams(stdin, stdout, stderr, terminal), report, cgroup)
        found = stat(pid)
        self._runs[mark] = Target(pid, found[4] if found else 0, mark, cgroup)

    def _end_all(self) -> None:
        begun = boottime()
        look = ProcessScan()
        for target in self._runs.values():
            send(target.find(look), signal.SIGTERM)
        while self._runs and boottime() < begun + PATIENCE:
            if boottime() >= min(begun + GRACE, self._deadline):
                self._condemned.update(self._runs)
            self._judge()
            self._forget_ended(self._runs)
            select.select((), (), (), AGAIN)


def main(channel: int, files: tuple[int, int]) -> None:
    """``files``: the limits of open files, soft and hard, for the apps."""
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    for number in IGNORED:  # SIGCHLD: roots are reaped by the kernel
        signal.signal(number, signal.SIG_IGN)
    confine.hide_process()
    run_root.prepare()
    Supervisor(socket.socket(fileno=channel)).serve()
