"""An app that runs as if we were not there: with our terminal, our output, our process group and our environment.

Signals for one who hands them on: taken one by one, with where they came from.

Output that is shared with a child which writes to it as it likes.
"""

import asyncio
import contextlib
import ctypes
import io
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from flyatc.kit.errors import StartFailed
from flyatc.process.spawn import Leader

PR_SET_PDEATHSIG = 1  # prctl(2)
OF_TERMINAL = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU))


class ForegroundApp:
    """``blocked``: the mask of signals that it begins with. To be made in the main thread: the kernel ends it with
    the thread that made it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], blocked: Collection[int]) -> None:
        """Raises StartFailed."""
        prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

        def in_the_child() -> None:
            """Between fork and exec: three system calls, all looked up before."""
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # we have died meanwhile
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

        try:
            self._leader = Leader(subprocess.Popen(command, env=environ, preexec_fn=in_the_child))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise StartFailed(f"{command[0]!r} cannot be started: {_why(error, command[0])}") from error

    @property
    def pid(self) -> int:
        return self._leader.pid

    async def wait(self) -> int:
        """Its exit code; 128 + N where signal N ended it."""
        await self._leader.wait()
        code = self._leader.returncode
        assert code is not None, "it has ended"
        return code if code >= 0 else 128 - code

    def relay(self, number: signal.Signals, *, by_kernel: bool) -> bool:
        """Whether it was sent. Not what the terminal has sent to the whole group, where the app is still of that."""
        if self._leader.returncode is not None:
            return False
        if by_kernel and number in OF_TERMINAL and os.getpgid(self.pid) == os.getpgrp():
            return False
        os.kill(self.pid, number)  # it is not reaped yet: the number is nobody else's
        return True


def _why(error: Exception, program: str) -> str:
    match error:
        case FileNotFoundError() if "/" not in program:
            return "there is no such program on PATH: install it, or write its whole path"
        case FileNotFoundError():
            return "there is no such program; if it is a script, look at its #! line"
        case PermissionError():
            return "it may not be executed: chmod +x" if Path(program).is_file() else "it is no program"
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
    """Made before any other thread: from then on they are blocked everywhere, and wait for ``listen``. ``before``: what
    was blocked already; a child must get that back.

    By sigwaitinfo(2), since a handler is not told who sent a signal: what the terminal sent (Ctrl-C, a new size) went
    to our whole process group, and who relayed that too would interrupt the app twice."""

    def __init__(self) -> None:
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)

    def listen(self, tell: Callable[[signal.Signals, bool], None]) -> None:
        """From now on each is told on the loop that runs now; the second argument: whether the kernel sent it."""
        loop = asyncio.get_running_loop()

        def wait() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is to be told any more
                while True:
                    came = signal.sigwaitinfo(RELAYED)
                    # sigaction(2): SI_KERNEL is above 0, what a process sent (SI_USER, SI_QUEUE, SI_TKILL) is not
                    loop.call_soon_threadsafe(tell, signal.Signals(came.si_signo), came.si_code > 0)

        threading.Thread(target=wait, name="signals", daemon=True).start()


class WholeLines(io.FileIO):
    """Writes no more than a pipe takes at once, and ends with a line's end where it can: so no line of the child's
    comes amid one of ours, however much is written. pipe(7), PIPE_BUF."""

    def write(self, data: Any) -> int:
        end = bytes(data[: select.PIPE_BUF]).rfind(b"\n") + 1
        return super().write(data[: end or select.PIPE_BUF])
