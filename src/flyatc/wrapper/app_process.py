"""The wrapped app in the foreground, with flyatc's terminal, output, process group and environment.

Also the relay of signals to it, and log output that does not mix with its lines.
"""

import asyncio
import contextlib
import ctypes
import io
import os
import resource
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from flyatc.kit import file_limit
from flyatc.kit.errors import StartFailed
from flyatc.process.spawn import NOT_ON_PATH, Leader

PR_SET_PDEATHSIG = 1  # prctl(2)
OF_TERMINAL = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU))


class ForegroundApp:
    """The running app. ``blocked``: its initial signal mask. Create it in the main thread: the kernel kills the app
    when the creating thread ends (PR_SET_PDEATHSIG)."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], blocked: Collection[int]) -> None:
        """Raises StartFailed."""
        prctl, parent, files = ctypes.CDLL(None).prctl, os.getpid(), file_limit.inherited()

        def in_the_child() -> None:
            """Make four system calls between fork and exec, all looked up before."""
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # flyatc has died meanwhile
                os._exit(1)
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

        try:
            self._leader = Leader(subprocess.Popen(command, env=environ, preexec_fn=in_the_child))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise StartFailed(f"{command[0]!r} cannot be started: {_why(error, command[0])}") from error

    @property
    def pid(self) -> int:
        return self._leader.pid

    async def wait(self) -> int:
        """Wait for its end and return its exit code; 128 + N if signal N ended it."""
        await self._leader.wait()
        code = self._leader.returncode
        assert code is not None, "it has ended"
        return code if code >= 0 else 128 - code

    def relay(self, number: signal.Signals, *, by_kernel: bool) -> bool:
        """Send a signal to the app and return True. Skip it, and return False, if the app has ended or has got it from
        the terminal with the whole process group."""
        if self._leader.returncode is not None:
            return False
        if by_kernel and number in OF_TERMINAL and os.getpgid(self.pid) == os.getpgrp():
            return False
        os.kill(self.pid, number)  # it is not reaped yet: the pid is not reused
        return True


def _why(error: Exception, program: str) -> str:
    match error:
        case FileNotFoundError() if "/" not in program:
            return NOT_ON_PATH
        case FileNotFoundError():
            return "there is no such program; if it is a script, look at its #! line"
        case PermissionError():
            return "it may not be executed: chmod +x" if Path(program).is_file() else "it is not a program"
        case OSError():
            return str(error.strerror)
    return str(error)


RELAYED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)


class Signals:
    """Blocks the RELAYED signals until ``listen``. Create it before any other thread, so that all threads block them.
    ``before``: the previous mask, which a child must get.

    Uses sigwaitinfo(2), since a handler does not get the sender: signals from the terminal (Ctrl-C, a new size) reach
    the whole process group, and relaying them too would interrupt the app twice."""

    def __init__(self) -> None:
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)

    def listen(self, callback: Callable[[signal.Signals, bool], None]) -> None:
        """Call ``callback`` for each signal on the current loop. Its second argument: whether the kernel sent it."""
        loop = asyncio.get_running_loop()

        def wait() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                while True:
                    received = signal.sigwaitinfo(RELAYED)
                    # sigaction(2): SI_KERNEL is above 0, what a process sent (SI_USER, SI_QUEUE, SI_TKILL) is not
                    loop.call_soon_threadsafe(callback, signal.Signals(received.si_signo), received.si_code > 0)

        threading.Thread(target=wait, name="signals", daemon=True).start()


class WholeLines(io.FileIO):
    """Writes at most PIPE_BUF bytes at once, up to a line's end if possible, so that the child's output never splits a
    log line. pipe(7)."""

    def write(self, data: Any) -> int:
        end = bytes(data[: select.PIPE_BUF]).rfind(b"\n") + 1
        return super().write(data[: end or select.PIPE_BUF])
