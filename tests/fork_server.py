"""flyatc's processes, forked from one that has imported flyatc already: such a start takes a tenth of the CPU.

Each pytest process has a fork server, begun with the first start. What it forks runs ``flyatc.cli.main`` as
``python -m flyatc`` does, with its own pid, descriptors, environment, folder, arguments, signals and exit code. Tests
of imports, of memory and of what is inherited start Python itself (``Popen``), as do the simulator, the torture,
``test_dist.py``, and all that set a variable of Python's, such as PYTHONPATH. With ``FLYATC_TEST_FORK=0`` all do.
"""

import atexit
import contextlib
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

import leftovers

IMPORTED = (  # with all that they import; and the modules of all commands
    *(f"flyatc.{name}" for name in ("daemon.daemon", "wrapper.wrapper", "control.http_server", "control.application")),
    *(f"flyatc.{name}" for name in ("dashboard.site", "dashboard.machines")),
    *("aiohttp", "boto3", "dns.asyncresolver", "passlib.hash", "prometheus_client.exposition", "rich.table"),
)
BY_HAND, UNBUFFERED = "FLYATC_TEST_FORK", "PYTHONUNBUFFERED"
LARGEST = 1 << 17  # bytes of a message


class Process:
    """A forked process: what tests use of ``subprocess.Popen``."""

    def __init__(self, arguments: Sequence[str], report: socket.socket, stdin: IO[bytes] | None) -> None:
        self.args, self.stdin, self._report = arguments, stdin, report
        self._code: int | None = None
        self.pid = self._receive()

    def _receive(self) -> int:
        number = self._report.recv(64)
        assert number, "the fork server has ended"
        return int(number)

    @property
    def returncode(self) -> int:
        """Of a process that has ended."""
        assert self._code is not None
        return self._code

    def poll(self) -> int | None:
        return self._until(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._until(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _until(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._report], [], [], timeout)[0]:
            self._code = self._receive()
            self._report.close()
        return self._code

    def communicate(self, stdin: bytes, timeout: float) -> None:
        """Write a short input, and wait."""
        assert self.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(stdin)
        self.stdin.close()
        self.wait(timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command, pass_fds = [sys.executable, __file__, str(theirs.fileno())], [theirs.fileno()]
            env = {name: value for name, value in os.environ.items() if name != leftovers.TEST}  # it serves many
            self._process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, pass_fds=pass_fds)

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        output: IO[bytes],
        errors: IO[bytes],
        *,
        piped: bool,
    ) -> Process:
        message = json.dumps([list(arguments), str(cwd), dict(env)]).encode()
        assert len(message) < LARGEST
        reading, stdin = _pipe() if piped else (Path(os.devnull).open("rb"), None)  # noqa: SIM115 - closed below
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, reading:
            files = [file.fileno() for file in (reading, output, errors, theirs)]
            socket.send_fds(self._channel, [message], files)
        return Process(["flyatc", *arguments], ours, stdin)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb", 0)


_begun: list[ForkServer] = []
_lock = threading.Lock()


def _server() -> ForkServer:
    with _lock:
        if not _begun:
            _begun.append(ForkServer())
        return _begun[0]


def close() -> None:
    """End the server of this process, if there is one."""
    while _begun:
        _begun.pop().close()


def start(
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    *,
    piped: bool = False,
    python: Sequence[str] = (),
) -> Process | subprocess.Popen[bytes]:
    """Start ``flyatc ARGUMENTS``. ``errors``: where stderr goes; default: to ``output``. ``piped``: its input is a
    pipe; otherwise there is none. ``python``: started in place of a fork."""
    errors = errors or output
    if python or _python_variables(env) != _python_variables(os.environ) or os.environ.get(BY_HAND) == "0":
        command = [*(python or [sys.executable]), "-m", "flyatc", *arguments]
        stdin = subprocess.PIPE if piped else subprocess.DEVNULL
        return subprocess.Popen(command, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=errors)
    return _server().start(arguments, cwd, env, output, errors, piped=piped)


def _python_variables(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith("PYTHON") and name != UNBUFFERED}


def run(
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    *,
    stdin: str | None = None,
    python: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run ``flyatc ARGUMENTS`` to its end. ``stdin``: a short input by a pipe."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(arguments, cwd, env, output, errors, piped=stdin is not None, python=python)
        try:
            if stdin is not None:
                process.communicate(stdin.encode(), timeout)
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (output, errors)]
    return subprocess.CompletedProcess(process.args, code, *texts)


# --- in the server's process ---


def _serve(channel: socket.socket) -> None:
    """Fork for each message until the client is gone. Returns in the forked processes only."""
    reports: dict[int, tuple[int, int]] = {}  # of a pidfd: the pid, and where its end is reported
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != channel.fileno():
                poll.unregister(ready)
                _report_end(ready, *reports.pop(ready))
                continue
            message, files, _, _ = socket.recv_fds(channel, LARGEST, 4)
            if not message:
                os._exit(0)
            pid = os.fork()
            if not pid:
                channel.detach()
                return _become(message, files)
            for file in files[:3]:
                os.close(file)
            os.write(files[3], b"%d" % pid)
            pidfd = os.pidfd_open(pid)
            reports[pidfd] = pid, files[3]
            poll.register(pidfd, select.POLLIN)


def _report_end(pidfd: int, pid: int, report: int) -> None:
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(report, b"%d" % os.waitstatus_to_exitcode(status))
    os.close(report)
    os.close(pidfd)


def _become(message: bytes, files: Sequence[int]) -> None:
    """Make this forked process what ``python -m flyatc ARGUMENTS`` is before its first line."""
    arguments, cwd, env = json.loads(message)
    for number in range(3):
        os.dup2(files[number], number)
    os.closerange(3, max(files) + 1024)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[0], sys.argv = cwd, ["flyatc", *arguments]
    sys.stdout = open(1, "w", buffering=1 if UNBUFFERED in env else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115


def _main() -> None:
    import gc

    from flyatc.cli.main import COMMANDS, main

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; it ends with its client
    for name in (*(f"flyatc.cli.{module}" for module, _ in COMMANDS.values()), *IMPORTED):
        importlib.import_module(name)
    gc.collect()
    generators = [one for one in gc.get_objects() if type(one) is random.Random]
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    for one in generators:
        one.seed()
    try:
        main()
    except SystemExit as ending:
        _end(int(ending.code or 0))


def _end(code: int) -> NoReturn:
    """End as Python does, but clear no modules: that takes 0.05 s in a forked process, which copies what is shared."""
    threading._shutdown()  # type: ignore[attr-defined]  # joins the threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()
