"""``flyatc sim`` as a user runs it, as a process, with its commands."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.fly import Told, ask
from whole.daemon import SLOWNESS, clean_environment, eventually


class Sim:
    """``folder`` is where it is started; tenants.yaml lies there, or is named in ``arguments``."""

    def __init__(self, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.folder, self._environ = folder, clean_environment() | (env or {})
        self.out = folder / "sim.log"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flyatc", "sim", "--port", "0", "--api-port", "0", "--dns-port", "0", "--watch",
                 *arguments],
                stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=self._environ | {"PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        eventually(self._greeted, 30, "the greeting")
        self.port = int(self.status()["proxy"].rpartition(":")[2])

    def _greeted(self) -> bool:
        assert self.process.poll() is None, self.out.read_text()
        return "Ctrl-C ends all\n" in self.out.read_text()

    def visit(self, path: str, method: str = "GET") -> Told:
        return ask(self.port, method, path, None, {})

    def until_told(self, text: str) -> None:
        eventually(lambda: text in self.out.read_text(), 10, text)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flyatc", "sim", *arguments], capture_output=True, text=True, cwd=self.folder,
            env=self._environ, timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        run = self.cli("ps", "--json")
        assert run.returncode == 0, run.stderr
        return dict(json.loads(run.stdout))

    def states(self) -> dict[str, str]:
        return {one["name"]: one["state"] for one in self.status()["machines"]}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60 * SLOWNESS)


@contextmanager
def simulating(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[Sim]:
    one = Sim(folder, *arguments, env=env)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.stop()
        print(one.out.read_text()[-10_000:])
