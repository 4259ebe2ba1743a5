"""Children of the bench: started on chosen cores, awaited until they listen, ended by their pid."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Set
from pathlib import Path


class NotListening(Exception):
    """It ended, or was not there in time. Says what it wrote."""


def free_port() -> int:
    """A port that nobody has at this moment: nginx and its like cannot be asked which one they got."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], *, port: int, cores: Set[int], output: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that accepts on ``port``; its output is appended to ``output``. Ends it: SIGTERM, 30 s, SIGKILL."""
    with output.open("ab") as out:
        child = subprocess.Popen(
            command, cwd=output.parent, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
    try:
        await_listening(child, port, output, command[0])
        yield child
    finally:
        end(child)


def await_listening(child: subprocess.Popen[bytes], port: int, output: Path, name: str) -> None:
    """Raises NotListening."""
    deadline = time.monotonic() + 60  # a busy machine
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        pause(0.002)
    last = " / ".join(output.read_text(errors="replace").splitlines()[-3:])
    raise NotListening(f"{name} does not listen: {last or 'it said nothing'}")


def await_words(output: Path, words: str) -> None:
    """Until it has written a line that begins so. Raises NotListening."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(line.startswith(words) for line in output.read_text(errors="replace").splitlines()):
            return
        pause(0.01)
    raise NotListening(f"{output.name} has no line that begins with {words!r}")


def end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def pause(seconds: float) -> None:
    time.sleep(seconds)  # between two looks at something that cannot be awaited
