"""The root of a run: the process between the supervisor and an app, ancestor of all processes of the run.

As a child subreaper it becomes the parent of each process below it whose own parent has ended, so no process can
escape by a new session or environment. It ends only when no process is left: its end proves that.

It reports lines on a pipe that no other process holds:

    runs ROOT STARTED APP STARTED CGROUP   the program runs; CGROUP: 1 if it was started inside of the run's cgroup
    failed ERRNO STEP                      it does not run; nothing follows. STEP of its confinement, or none
    exit STATUS                            the app itself has ended, with the status of waitpid(2)
    empty                                  no process is left

It is forked from the supervisor, so most of its memory is shared."""

import ctypes
import gc
import os
import signal
import struct

from flyatc.process.isolation import confine
from flyatc.process.members import stat

TYPE_CHECKING = False  # typing's own would import typing, which takes as long as all the rest
if TYPE_CHECKING:
    from typing import NoReturn

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # prctl(2)
TIOCSCTTY = 0x540E  # ioctl_tty(2)
SYS_CLONE3 = 435  # on every architecture
CLONE_INTO_CGROUP = 0x200000000
NAME = b"flyatc-run"
DEFAULTS = (  # signals that the supervisor or Python ignores
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ
)  # fmt: skip

_libc = ctypes.PyDLL(None, use_errno=True)


def prepare() -> None:
    """Exclude all objects from garbage collection before the first fork, so that their pages stay shared."""
    gc.disable()
    gc.freeze()


def failed(number: int | None) -> bytes:
    return f"failed {number or 0}\n".encode()


class Streams:
    """Descriptors of the app. ``stdin``: one, or none: then it is the supervisor's, /dev/null. ``terminal``: stdin
    becomes the controlling terminal."""

    def __init__(self, stdin: "list[int]", stdout: int, stderr: int, terminal: bool) -> None:
        self.stdin, self.stdout, self.stderr, self.terminal = stdin, stdout, stderr, terminal

    def close(self) -> None:
        for file in (*self.stdin, self.stdout, self.stderr):
            os.close(file)

    def become_standard(self) -> None:
        """Make them 0, 1 and 2 of this process, which leads its session."""
        for file in self.stdin:
            os.dup2(file, 0)
        os.dup2(self.stdout, 1)
        os.dup2(self.stderr, 2)
        if self.terminal:
            confine.checked(_libc.ioctl(0, TIOCSCTTY, 0))


def run(launch: int, streams: Streams, report: int, cgroup: str) -> "NoReturn":
    """Run the app in a forked process until no process of it is left; never returns."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as in the supervisor, no status could be waited for
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _libc.prctl(PR_SET_NAME, NAME, 0, 0, 0)
        _supervise(Program(launch), streams, report, cgroup)
    except OSError as error:
        send_report(report, failed(error.errno))
    finally:
        os._exit(0)


class Program:
    """An app to start, as read from the launch file."""

    def __init__(self, launch: int) -> None:
        """Read argv, confinement, environment and directory, separated by NUL, which execve(2) does not allow in
        them."""
        with open(launch, "rb", closefd=False) as file:
            count, confined, self.directory, *strings = file.read().split(b"\0")
        split, end = int(count), int(count) + int(confined)
        self.argv, self.confinement = strings[:split], strings[split:end]
        self.env = dict(one.split(b"=", 1) for one in strings[end:] if one)


def _supervise(program: Program, streams: Streams, report: int, cgroup: str) -> None:
    hears, says = os.pipe()  # says is closed by execve: an empty read means that the program runs
    app, inside = _clone(cgroup)
    if app == 0:
        _become(program, streams, says)
    found = stat(app)
    os.close(says)
    streams.close()
    if why := os.read(hears, 32):
        os.waitpid(app, 0)
        send_report(report, b"failed " + why + b"\n")
        return
    root, itself = os.getpid(), stat(os.getpid())
    assert itself is not None
    started = found[4] if found is not None else 0
    send_report(report, f"runs {root} {itself[4]} {app} {started} {int(inside)}\n".encode())
    _wait(app, report)
    send_report(report, b"empty\n")


def _wait(app: int, report: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if pid == app:
            send_report(report, f"exit {status}\n".encode())


def send_report(report: int, line: bytes) -> None:
    """Write a report line to the daemon, if it still runs."""
    try:
        os.write(report, line)
    except OSError:
        return


def _clone(cgroup: str) -> tuple[int, bool]:
    """Fork; the child starts inside the cgroup, so it cannot start a process outside. Moving it there afterwards would
    leave such a gap, and may take the kernel 20 ms. Returns the pid, and whether the cgroup was entered."""
    if cgroup:
        try:
            folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return os.fork(), False
        arguments = struct.pack("11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, folder)
        pid = _libc.syscall(SYS_CLONE3, arguments, len(arguments))
        os.close(folder)
        if pid >= 0:
            return pid, True
    return os.fork(), False


def _become(program: Program, streams: Streams, says: int) -> "NoReturn":
    try:
        os.setsid()
        streams.become_standard()
        for number in DEFAULTS:
            signal.signal(number, signal.SIG_DFL)
        confine.close_on_exec()
        confine.confine(program.confinement)
        os.chdir(program.directory)
        os.execvpe(program.argv[0], program.argv, program.env)  # noqa: S606 - the operator's command
    except OSError as error:
        os.write(says, f"{error.errno} {confine.step}".encode())
    finally:
        os._exit(127)
