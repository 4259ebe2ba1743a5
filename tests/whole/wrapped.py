"""The wrapper as a process: ``flyatc run -- CMD`` in place of the daemon."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fork_server
from flyatc.process import proc
from flyatc.process.ports import PortPool
from whole import visits
from whole.daemon import RESTLESS, SLOWNESS, Daemon, clean_environment, eventually
from whole.visits import Line

RESTLESS_APP = (sys.executable, "-S", str(RESTLESS))
PARROT_APP = (sys.executable, "-S", str(RESTLESS.with_name("parrot.py")))
TARGETS = (61000, 65536)  # ports of the apps: daemons of other tests give theirs from 20000 on
FOR_EVER = ("sleep", "1000")
GATED_APP = ("sh", "-c", 'read gate; exec "$@"', "sh", *RESTLESS_APP)  # begins with the end of its input


class Wrapped(Daemon):
    """``port``: where visitors come; ``target``: where the app is to listen."""

    target: int
    command: tuple[str, ...]
    options: tuple[str, ...] = ()

    def start(self, *arguments: str) -> "Wrapped":
        """Returns once it listens. ``arguments``: of flyatc; default: run, with options and command."""
        before = len(self.lines())
        self.launch(*arguments)

        def listening() -> dict[str, Any] | None:
            found = next((line for line in self.lines()[before:] if line.get("msg") == "listening"), None)
            if found is None and self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.log_file.read_text()}")
            return found

        self.port = int(eventually(listening, 20, "listening")["on"].rpartition(":")[2])
        return self

    def launch(self, *arguments: str) -> None:
        with self.log_file.open("ab") as log:
            arguments = arguments or ("run", *self.options, "--", *self.command)
            self.process = fork_server.start(arguments, self.folder, self.environment(), log, piped=True)

    def environment(self) -> dict[str, str]:
        ours = {"HTTP_PORT": "0", "TARGET_PORT": str(self.target)}
        others = {k: v for k, v in clean_environment().items() if k not in ("DEBUG", "LOG_REQUESTS")}
        return {**others, **ours, **self.env}

    def run(self, stdin: bytes = b"") -> int:
        """From its start to its end; the exit code."""
        self.launch()
        assert self.process is not None
        self.process.communicate(stdin, 20 * SLOWNESS)
        return self.process.returncode

    def lines(self) -> list[dict[str, Any]]:
        """As the daemon's; a number that the app says is JSON, and none of our lines."""
        return [line if isinstance(line, dict) else {"text": str(line)} for line in super().lines()]

    @property
    def output(self) -> str:
        """Return what stands in the log without being our own: the app's."""
        return "\n".join(line["text"] for line in self.lines() if "text" in line)

    def until_said(self, text: str, times: int = 1) -> None:
        eventually(lambda: self.output.count(text) >= times, what=f"{text!r} of the app")

    def end_input(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()

    @property
    def app(self) -> int:
        """The pid of the app."""
        return int(self.until_reported("app started")["pid"])

    def clean_up(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()  # its child follows it
            self.process.wait()
            assert self.process.stdin is not None
            self.process.stdin.close()


@contextlib.contextmanager
def wrapping(
    folder: Path, *command: str, env: dict[str, str] | None = None, options: tuple[str, ...] = ()
) -> Iterator[Wrapped]:
    """Not yet begun. Its log must not tell of an unexpected error at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    one = Wrapped(folder, "", env or {})
    one.target, one.command, one.options = PortPool(*TARGETS).take(), command or RESTLESS_APP, options
    try:
        yield one
        assert not one.reported("unexpected error"), one.reported("unexpected error")
    finally:
        one.clean_up()
        if one.log_file.exists():
            print(one.log_file.read_text(errors="replace")[-20_000:])


@contextlib.contextmanager
def wrapped(folder: Path, *command: str, env: dict[str, str] | None = None) -> Iterator[Wrapped]:
    """It listens; the app may not yet."""
    with wrapping(folder, *command, env=env) as one:
        yield one.start()


def gone(pid: int) -> bool:
    """It runs no more; it may not be reaped yet."""
    found = proc.find(pid)
    return found is None or found.ended


@contextlib.contextmanager
def ending(pid: int) -> Iterator[None]:
    """Ends a process that outlives the wrapper by design."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def answering(*lines: str, body: bytes = b"hello", status: str = "200 OK", more: str = "") -> str:
    """Where the parrot gives this answer. ``more``: of the query; each is another address."""
    head = "\r\n".join((f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}"))
    return visits.say(f"{head}\r\n\r\n".encode("latin-1") + body, more=f"&{more}")


def waits(line: Line, request: bytes) -> None:
    """Returns when the wrapper has the request: it answers what comes before it in the same packet by itself."""
    assert line.send(visits.request("*", method="OPTIONS") + request).reply().status == 200


def upgraded(one: Wrapped, protocol: str = "websocket") -> Line:
    """The restless app's WebSocket."""
    line = Line(one)
    line.send(
        visits.request("/upgrade", "Connection: keep-alive, Upgrade", f"Upgrade: {protocol}", "Sec-WebSocket-Key: x")
    )
    assert line.reply().status == 101
    return line
