"""``flyatc sim`` as a process, and its commands."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flyatc.sim import place
from whole.daemon import SLOWNESS, clean_environment, eventually


class Sim:
    """Two machines, m1 with the user 100 and m2 with 200."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        (folder / "tenants.yaml").write_text(config)
        self.out = folder / "sim.log"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flyatc", "sim", "--machines", "2", "--port", "0", "--api-port", "0",
                 "--dns-port", "0", "--watch"],
                stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=clean_environment() | {"PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self.port = int(eventually(lambda: self._line("open "), 30, "the greeting").rpartition(":")[2])

    def _line(self, start: str) -> str | None:
        assert self.process.poll() is None, self.out.read_text()
        return next(
            (line for line in self.out.read_text().splitlines(True) if line.startswith(start) and line[-1:] == "\n"),
            None,
        )

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flyatc", "sim", *arguments], capture_output=True, text=True, cwd=self.folder,
            env=clean_environment(), timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in place.get_overview(self.folder / ".flyatc-sim").machines}

    def ids(self) -> dict[str, str]:
        return {one.name: one.id for one in place.get_overview(self.folder / ".flyatc-sim").machines}

    def told(self, machine: str, message: str = "", **fields: Any) -> list[dict[str, Any]]:
        """The lines of a machine's log with these words in their message, and these fields."""
        text = (self.folder / ".flyatc-sim" / machine / "machine.log").read_text()
        lines = [json.loads(line) for line in text.splitlines(True) if line.startswith("{") and line.endswith("}\n")]
        return [line for line in lines if message in line["msg"] and fields.items() <= line.items()]


@contextmanager
def running(folder: Path, config: str) -> Iterator[Sim]:
    one = Sim(folder, config)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            one.process.wait(60 * SLOWNESS)
        print(one.out.read_text()[-10_000:])
