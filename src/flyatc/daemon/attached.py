"""An app that runs as if we were not there: with our terminal, our output, our process group and our environment."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flyatc.kit.errors import StartFailed
from flyatc.process.leader import Leader

PR_SET_PDEATHSIG = 1  # prctl(2)
OF_TERMINAL = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU))


class Attached:
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
