"""Starting a program, and learning of its end.

Not by the loop's own subprocesses: uvloop starts a child by fork(2), which stops everybody for 3 ms and for longer the
more memory we use, where subprocess takes vfork(2) and 1 ms; it hands a script without ``#!`` to a shell; and the loops
differ in when they call a child ended. A pidfd is the same on all of them, and needs neither SIGCHLD nor a thread.

The pipe on which we hear a child: our end of it is read, and closed, by us alone.

Not by ``loop.connect_read_pipe``: uvloop closes such a descriptor twice, in libuv and by its file object, and counts
on EBADF. Between the two, one of our threads may have been given the same number: then its file is closed, be it a
database, or a visitor's connection.
"""

import asyncio
import os
import signal
import subprocess

from flyatc.kit.errors import StartFailed
from flyatc.process import group, launch_plan, proc


class Leader:
    """A program that we started; ``group`` is of use where it leads a session of its own. Its zombie is reaped by
    ``wait`` and by nobody else."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Raises OSError."""
        self._process = process
        itself = proc.find(process.pid)
        assert itself is not None, "nobody else reaps it"
        self.group = group.Group(process.pid, itself.started)
        self._pidfd = os.pidfd_open(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As subprocess tells it: -N where signal N killed it, None while it runs."""
        return self._process.returncode

    async def wait(self) -> None:
        """Until it has ended, once; then it is reaped."""
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
    """Returns when the program runs. Raises StartFailed with a sentence for the operator."""
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
    except FileNotFoundError as error:
        reason = "there is no such program: install it, write its whole path, or look at the #! line if it is a script"
        raise StartFailed(f"{program!r} cannot be started: {reason}") from error
    except PermissionError as error:
        reason = f"it may not be executed: chmod +x, and see that {launch.directory} may be entered"
        raise StartFailed(f"{program!r} cannot be started: {reason}") from error
    except (OSError, ValueError) as error:
        raise StartFailed(f"{program!r} cannot be started: {error}") from error
    try:
        return Leader(process)
    except OSError as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise StartFailed(f"{program!r} cannot be watched: {error}") from error


class Pipe:
    def __init__(self) -> None:
        """Raises OSError. ``theirs`` is the end for the child; the caller closes it."""
        ours, self.theirs = os.pipe()
        os.set_blocking(ours, False)
        self._ours: int | None = ours
        self._news = asyncio.Event()

    async def read(self, most: int) -> bytes:
        """What has come, as soon as something has; nothing at the end of the stream, or when it was closed. For one
        reader."""
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
        """May be called more than once. What nobody has read is lost."""
        ours, self._ours = self._ours, None
        if ours is not None:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            self._news.set()
