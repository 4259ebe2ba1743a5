"""``flyatc sim`` as a process, and its commands."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fork_server
from fakes.fly import Reported, ask
from flyatc.sim import client
from flyatc.sim.types import Overview
from whole.daemon import SLOWNESS, clean_environment, eventually
from whole.log_file import Lines, LogFile, when_written


class Sim:
    """Machines m1, m2 … of the users 100, 200 …; visitors come in at m1. ``config``: the text of tenants.yaml, or where
    it lies; ``env``: added to the environment of all."""

    def __init__(self, folder: Path, config: str | Path, machines: int = 2, env: dict[str, str] | None = None) -> None:
        self.folder, self._environ = folder, clean_environment() | (env or {})
        if isinstance(config, str):
            (folder / "tenants.yaml").write_text(config)
        where = config if isinstance(config, Path) else folder / "tenants.yaml"
        self.out = folder / "sim.log"
        self._logs: dict[str, LogFile] = {}
        with self.out.open("wb") as out:
            command = ["sim", "--machines", str(machines), "--config", str(where)]
            command += ["--port", "0", "--api-port", "0", "--dns-port", "0", "--watch"]
            self.process = fork_server.start(command, folder, self._environ | {"PYTHONUNBUFFERED": "1"}, out)
        eventually(self._greeted, 30, "the greeting")
        self.port = int(self.overview().proxy.rpartition(":")[2])

    def _greeted(self) -> bool:
        assert self.process.poll() is None, self.out.read_text()
        return "Ctrl-C ends all\n" in self.out.read_text()

    def visit(self, path: str, method: str = "GET", body: bytes | None = None) -> Reported:
        return ask(self.port, method, path, body, {})

    def until_reported(self, text: str) -> None:
        """Waits for what --watch prints."""
        eventually(lambda: text in self.out.read_text(), 10, text)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return fork_server.run(["sim", *arguments], self.folder, self._environ, 60 * SLOWNESS)

    def overview(self) -> Overview:
        return client.get_overview(self.folder / ".flyatc-sim")

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in self.overview().machines}

    def ids(self) -> dict[str, str]:
        return {one.name: one.id for one in self.overview().machines}

    def reported(self, machine: str, message: str = "", **fields: Any) -> list[dict[str, Any]]:
        """The lines of a machine's log with these words in their message, and these fields."""
        log = self._logs.setdefault(machine, LogFile(self.folder / ".flyatc-sim" / machine / "machine.log"))

        def look() -> Lines:
            return [line for line in log.lines() if message in line.get("msg", "") and fields.items() <= line.items()]

        return when_written(look)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60 * SLOWNESS)


@contextmanager
def running(folder: Path, config: str | Path, machines: int = 2, env: dict[str, str] | None = None) -> Iterator[Sim]:
    one = Sim(folder, config, machines, env)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.stop()
        print(one.out.read_text()[-10_000:])
