"""``flyatc sim`` as a user runs it: real daemons as machines, and its commands."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.fly import ask
from whole.daemon import SLOWNESS, clean_environment, config, eventually


class Sim:
    def __init__(self, folder: Path, users: str = 'users: {"*": {match: "[0-9]+"}}', top: str = "") -> None:
        self.folder = folder
        (folder / "tenants.yaml").write_text(config(users=users, top=top))
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
        run = self.cli("ps", "--json")
        assert run.returncode == 0, run.stderr
        return {one["name"]: one["state"] for one in json.loads(run.stdout)["machines"]}


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    one = Sim(tmp_path_factory.mktemp("sim"))
    yield one
    if one.process.poll() is None:
        one.process.send_signal(signal.SIGINT)
        one.process.wait(60 * SLOWNESS)
    print(one.out.read_text()[-10_000:])


def test_a_visit_goes_through_the_proxy_to_a_daemon_with_its_own_data(sim: Sim) -> None:
    told = ask(sim.port, "GET", "/100/echo", None, {})
    assert (told.status, told.headers["Via"]) == (200, "1.1 fly.io")
    eventually(lambda: "GET /100/echo  m1 200" in sim.out.read_text(), 10, "the hops")
    assert (sim.folder / ".flyatc-sim" / "m1" / "data" / "tenants" / "100").is_dir()
    assert not (sim.folder / "data").exists()


def test_machines_sleep_wake_and_tell_what_they_wrote(sim: Sim) -> None:
    assert sim.states() == {"m1": "started", "m2": "started"}
    assert ask(sim.port, "GET", "/200/echo", None, {}).status == 200, "from now on m2 is known to have him"
    assert "m2  " in sim.cli("suspend", "m2").stdout
    assert sim.states()["m2"] == "suspended"
    sim.cli("start", "m2")
    sim.cli("kill", "m2")
    assert sim.states()["m2"] == "started, host lost"
    sim.cli("start", "m2")
    assert sim.cli("stop", "m2").returncode == 0
    assert sim.states() == {"m1": "started", "m2": "stopped"}
    assert "listening" in sim.cli("logs", "m2").stdout
    assert sim.cli("logs", "m9").returncode == sim.cli("stop", "m9").returncode == 1


def test_an_upload_for_a_machine_which_sleeps_wakes_it_and_lands_there(sim: Sim) -> None:
    body = b"x" * 1_500_000
    assert sim.states()["m2"] == "stopped"
    told = ask(sim.port, "POST", "/200/echo", body, {})
    assert (told.status, told.json["sha256"]) == (200, hashlib.sha256(body).hexdigest())
    eventually(lambda: "POST /200/echo  m1 200" in sim.out.read_text(), 10, "the hops")
    assert sim.states()["m2"] == "started"
    assert (sim.folder / ".flyatc-sim" / "m2" / "data" / "tenants" / "200").is_dir()
    assert not (sim.folder / ".flyatc-sim" / "m1" / "data" / "tenants" / "200").exists()


def test_the_platform_can_be_told_to_fail(sim: Sim) -> None:
    assert sim.cli("fail", "--api", "503", "--dns", "servfail").returncode == 0
    assert json.loads(sim.cli("ps", "--json").stdout)["faults"] == {"api": "503", "dns": "servfail"}
    assert sim.cli("fail").returncode == 0


def test_at_the_end_nothing_is_left_and_nobody_to_ask(sim: Sim) -> None:
    again = sim.cli("--port", "0", "--api-port", "0", "--dns-port", "0")
    assert "another flyatc sim runs" in again.stderr
    sim.process.send_signal(signal.SIGINT)
    assert sim.process.wait(60 * SLOWNESS) == 0
    told = (sim.folder / ".flyatc-sim" / "m1" / "machine.log").read_text()
    assert "stopped: all is saved" in told
    assert "no simulator runs" in sim.cli("ps").stderr
