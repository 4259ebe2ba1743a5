"""Start a program, wait for its end by a pidfd, and read a pipe.

The event loop's subprocesses are not used. uvloop starts a child by fork(2), which blocks the daemon for 3 ms, longer
with more memory; subprocess uses vfork(2) and takes 1 ms. uvloop runs a script without ``#!`` in a shell. And loops
differ in when they report a child's end. A pidfd works the same on all, and needs neither SIGCHLD nor a thread.

``loop.connect_read_pipe`` is not used for pipes: uvloop closes such a descriptor twice, in libuv and by its file
object, and relies on EBADF. In between, another thread may have got the same number: then its file is closed, which
may be a database or a client's connection.
"""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from flyatc.kit.errors import StartFailed
from flyatc.process import launch_plan, proc, termination

NO_PROGRAM = "there is no such program: install it, write its whole path, or look at the #! line if it is a script"
NOT_ON_PATH = "there is no such program on PATH: install it, or write its whole path"


class Leader:
    """A started program. ``group`` is meaningful only if it leads its own session. Only ``wait`` may reap it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Raises OSError."""
        self._process = process
        itself = proc.find(process.pid)
        assert itself is not None, "only wait() reaps it"
        self.group = termination.Group(process.pid, itself.started)
        self._pidfd = os.pidfd_open(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As in subprocess: -N if signal N killed it, None while it runs."""
        return self._process.returncode

    async def wait(self) -> None:
        """Wait for its end and reap it. Call once."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()  # pidfd_open(2): it becomes readable when the process ends
        loop.add_reader(self._pidfd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._process.poll()


def spawn(launch: launch_plan.Launch, stdout: int, stderr: int) -> Leader:
    """Start the program in a new session. Raises StartFailed with a sentence for the operator."""
    program = launch.argv[0]
    try:
        process = subprocess.Popen(
            launch.argv,
            env=launch.env,
            cwd=launch.directory,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise StartFailed(f"{program!r} cannot be started: {_why(launch, error)}") from error
    try:
        return Leader(process)
    except OSError as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise StartFailed(f"{program!r} cannot be watched: {error}") from error


class Pipe:
    """A pipe from a child. ``theirs`` is the child's end; the caller closes it."""

    def __init__(self) -> None:
        """Raises OSError."""
        ours, self.theirs = os.pipe()
        os.set_blocking(ours, False)
        self._ours: int | None = ours
        self._news = asyncio.Event()

    async def read(self, most: int) -> bytes:
        """Wait for data and return it; b"" at the end of the stream or once closed. For one reader."""
        while self._ours is not None:
            try:
                return os.read(self._ours, most)
            except BlockingIOError:
                await self._readable(self._ours)
        return b""

    async def _readable(self, ours: int) -> None:
        loop = asyncio.get_running_loop()
        self._news.clear()
        loop.add_reader(ours, self._news.set)
        try:
            await self._news.wait()
        finally:
            if self._ours is not None:
                loop.remove_reader(ours)

    def close(self) -> None:
        """Close the read end; unread data is lost. May be called more than once."""
        ours, self._ours = self._ours, None
        if ours is not None:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            self._news.set()


def _on_no_path(launch: launch_plan.Launch) -> bool:
    """Return whether no folder of PATH has the program. A folder that the user id may not enter makes execvpe(3) say
    "permission denied" of a program that does not exist."""
    if "/" in launch.argv[0]:
        return False
    folders = (launch.env.get("PATH") or os.defpath).split(os.pathsep)
    return not any(os.access(Path(launch.directory, folder, launch.argv[0]), os.F_OK) for folder in folders)


def exec_failure(launch: launch_plan.Launch, number: int, step: str) -> str:
    """Return why execve failed, for the operator. ``step``: of the confinement, if that failed."""
    program = launch.argv[0]
    if step:
        why = f"it cannot be separated from the other apps ({step}: {os.strerror(number)}): see app.isolation"
        return f"{program!r} cannot be started: {why}"
    user = next((f" by the user id {word[5:]}" for word in launch.confinement if word.startswith("user=")), "")
    error = OSError(number, os.strerror(number))
    lacking = isinstance(error, FileNotFoundError | PermissionError) and _on_no_path(launch)
    why = NOT_ON_PATH if lacking else _why(launch, error, user)
    return f"{program!r} cannot be started: {why}"


def _why(launch: launch_plan.Launch, error: Exception, user: str = "") -> str:
    match error:
        case FileNotFoundError():
            return NO_PROGRAM
        case PermissionError():
            return f"it may not be executed{user}: chmod +x, and see that {launch.directory} may be entered"
    return str(error)
