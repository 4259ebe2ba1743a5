"""The daemon as a process, for the tests of the fourth lane: start it, visit it, look at its log, end it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fork_server
from flyatc.control.client import Client
from slowness import SLOWNESS as SLOWNESS  # for those who import it from here
from whole.log_file import LogFile, matching, polling, when_written

RESTLESS = Path(__file__).parent.parent / "apps" / "restless.py"


def eventually(check: Callable[[], Any], within: float = 10.0, what: str = "it") -> Any:
    """Polls until ``check`` gives something true, and returns that; fails after ``within`` seconds. Long waits are
    polled less often: they end at most a thirtieth later, and leave the processor to what is waited for."""
    began = time.monotonic()
    while True:
        with polling():
            found = check()
        if found:
            return found
        waited = time.monotonic() - began
        if waited > within * SLOWNESS:  # asked anew: the machine may have become busy meanwhile
            raise AssertionError(f"{what} did not come about within {within} s (times {float(SLOWNESS):.1f})")
        time.sleep(min(max(0.01, waited / 30), 0.05))  # noqa: TID251 - polling for a fact


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Daemon:
    """``config`` is the text of tenants.yaml; {restless} in it is a command line for the restless app (a YAML list)."""

    folder: Path
    config: str
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | fork_server.Process | None = None
    port: int = 0
    python: list[str] = field(default_factory=list)  # default: forked, see fork_server
    _log: LogFile | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config_file(self) -> Path:
        return self.folder / "tenants.yaml"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.jsonl"

    def environment(self) -> dict[str, str]:
        return {**clean_environment(), **self.env}

    def write(self, config: str | None = None) -> None:
        """(Re)writes tenants.yaml."""
        self.config = config if config is not None else self.config
        self.config_file.write_text(self.config)

    def start(self, *arguments: str) -> "Daemon":
        """Returns once it listens. Fails with its output where it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write()
        before = len(self.lines())
        with self.log_file.open("ab") as log:
            command = ["serve", "--config", str(self.config_file), *arguments]
            self.process = fork_server.start(command, self.folder, self.environment(), log, python=self.python)

        def listening() -> dict[str, Any] | None:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log_file.read_text()}")
            return next((line for line in self.lines()[before:] if line.get("msg") == "listening"), None)

        self.port = int(eventually(listening, 20, "listening")["on"].rpartition(":")[2])
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # --- visits ---

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOWNESS)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.msg, answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None, timeout: float = 30) -> Answer:
        return self.request("GET", path, None, headers, timeout)

    def post(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None, timeout: float = 30) -> Answer:
        return self.request("POST", path, body, headers, timeout)

    @contextlib.contextmanager
    def connect(self, timeout: float = 10) -> Iterator[socket.socket]:
        """A raw connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout * SLOWNESS) as raw:
            yield raw

    def exchange(self, data: bytes, timeout: float = 10) -> bytes:
        """Sends bytes, reads until the daemon closes."""
        with self.connect(timeout) as raw:
            raw.sendall(data)
            return read_all(raw)

    # --- what it tells ---

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far; what is no JSON comes as {"text": …}."""
        if self._log is None:
            self._log = LogFile(self.log_file)
        return self._log.lines()

    def reported(self, message: str, **fields: Any) -> list[dict[str, Any]]:
        """The lines with this ``msg`` (or which begin with it) and these fields."""
        if self.process is not None and self.process.poll() is not None:
            return matching(self.lines(), message, fields)
        return when_written(lambda: matching(self.lines(), message, fields))

    def until_reported(self, message: str, within: float = 10, **fields: Any) -> dict[str, Any]:
        """Waits for the first such line."""
        found = eventually(lambda: self.reported(message, **fields), within, f"{message!r} {fields}")
        return dict(found[0])

    def configured(self, arguments: Sequence[str]) -> list[str]:
        """The arguments with ``--config``, before the words of a command for ``flyatc exec``."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        return [*arguments[:end], "--config", str(self.config_file), *arguments[end:]]

    def cli(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs ``flyatc COMMAND … --config`` against this daemon."""
        command = self.configured(arguments)
        return fork_server.run(command, self.folder, self.environment(), timeout * SLOWNESS, python=self.python)

    def status(self, tenant: str) -> dict[str, Any]:
        """Return the daemon's status of one tenant: as ``flyatc status --json``, without a process for each look."""
        overview = Client(str(self.data)).get("/status", dict[str, Any])
        return next(dict(one) for one in overview["tenants"] if one["tenant"] == tenant)

    def tenant(self, address: str) -> dict[str, Any]:
        """Return what the control API says of one tenant."""
        return Client(str(self.data)).get("/tenant", dict[str, Any], address=address)

    # --- its end ---

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(within * SLOWNESS)

    def stop(self, within: float = 40) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self) -> None:
        """SIGKILL: no farewell. Its supervisor ends the apps within seconds."""
        self.signal(signal.SIGKILL)
        self.wait()

    def kill_with_supervisor(self) -> None:
        """SIGKILL to both. The apps live on."""
        self.signal(signal.SIGSTOP)  # or it would start another
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if b"flyatc.process import supervisor" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
        self.kill()

    def lose_machine(self) -> None:
        """SIGKILL for the daemon and all it runs: the machine is lost. The caller deletes or moves the data."""
        apps = self.children()
        self.kill()
        for group in apps:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def clean_up(self) -> None:
        """Ends it, and all that it may have left, by pid."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15 * SLOWNESS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for record in (self.data / ".flyatc" / "children").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.killpg(json.loads(record.read_bytes())["pid"], signal.SIGKILL)

    def children(self) -> list[int]:
        """The process groups on record."""
        folder = self.data / ".flyatc" / "children"
        found = []
        for record in folder.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # it was just ended
                found.append(int(json.loads(record.read_bytes())["pid"]))
        return found


def read_all(raw: socket.socket) -> bytes:
    """Until the other side closes (a reset counts as an end)."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while data := raw.recv(65536):
            parts.append(data)
    return b"".join(parts)


def clean_environment() -> dict[str, str]:
    """Ours, without what would change a daemon."""
    drop = ("PORT", "FLY_", "FLYATC_CONFIG", "NO_COLOR", "AWS_", "BUCKET_NAME", "CUSTOMER_ID")
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)}


def restless(*flags: str) -> str:
    """A ``command:`` for tenants.yaml that runs the restless app."""
    return json.dumps([sys.executable, "-S", str(RESTLESS), *flags])


def config(
    *,
    app: str = "",
    top: str = "",
    users: str = "users: {ann: {tenants: [one, two]}, bob: {}}",
    flags: tuple[str, ...] = (),
    server: str = "",
    idle: str = "1h",
) -> str:
    """A tenants.yaml with the restless app. ``app``, ``server``: more lines of these sections, indented by two. A child
    that the app forks sleeps all the time, and may begin just after the app is ready: it does not count as a job."""
    if "--fork-child" in flags:
        app += "\n  idle_counts: [requests]"
    return f"""
server:
  listen: 127.0.0.1:0
{server}
app:
  command: {restless(*flags)}
  env: {{DATABASE_PATH: "{{data}}/app.sqlite3"}}
  databases: [app.sqlite3]
  idle: {idle}
  stop_grace: 2s
{app}
storage: {{interval: 0}}
{users}
{top}
"""
