"""``flyatc sim`` as a user runs it: real daemons as machines, and its commands."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import SLOWNESS, clean_environment, config
from whole.simulated import Sim, running


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with running(tmp_path_factory.mktemp("sim"), config(users='users: {"*": {match: "[0-9]+"}}')) as one:
        yield one


def test_the_greeting_names_addresses_which_are_somebodys(sim: Sim) -> None:
    reported = sim.out.read_text()
    assert (
        f"open     http://127.0.0.1:{sim.port}/100/   m1\n         http://127.0.0.1:{sim.port}/200/   m2\n" in reported
    )


def test_a_visit_goes_through_the_proxy_to_a_daemon_with_its_own_data(sim: Sim) -> None:
    reported = sim.visit("/100/echo")
    assert (reported.status, reported.headers["Via"]) == (200, "1.1 fly.io")
    sim.until_reported("GET /100/echo  m1 200")
    assert (sim.folder / ".flyatc-sim" / "m1" / "data" / "tenants" / "100").is_dir()
    assert not (sim.folder / "data").exists()


def test_machines_sleep_wake_and_show_what_they_wrote(sim: Sim) -> None:
    assert sim.states() == {"m1": "started", "m2": "started"}
    assert sim.visit("/200/echo").status == 200, "from now on m2 is known to have the user"
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
    reported = sim.visit("/200/echo", "POST", body)
    assert (reported.status, reported.json["sha256"]) == (200, hashlib.sha256(body).hexdigest())
    sim.until_reported("POST /200/echo  m1 200")
    assert sim.states()["m2"] == "started"
    assert (sim.folder / ".flyatc-sim" / "m2" / "data" / "tenants" / "200").is_dir()
    assert not (sim.folder / ".flyatc-sim" / "m1" / "data" / "tenants" / "200").exists()


def test_the_platform_can_be_made_to_fail(sim: Sim) -> None:
    reported = sim.cli("fail", "--api", "503", "--dns", "servfail").stdout
    assert reported == "the API fails: 503; the DNS fails: servfail; flyatc sim fail ends it\n"
    assert json.loads(sim.cli("ps", "--json").stdout)["faults"] == {"api": "503", "dns": "servfail"}
    assert sim.cli("fail").stdout == "all is well\n"


def test_the_folder_may_stand_before_the_command(sim: Sim) -> None:
    folder = str(sim.folder / ".flyatc-sim")
    for arguments in (["--data", folder, "ps"], ["ps", "--data", folder], ["--data", "/no", "ps", "--data", folder]):
        assert "m1" in sim.cli(*arguments).stdout
    assert "no simulator runs" in sim.cli("--data", "/no", "ps").stderr


def test_the_line_for_users_works_as_it_is_printed(sim: Sim) -> None:
    [line] = [line for line in sim.out.read_text().splitlines() if line.startswith("users ")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line.removeprefix("users").strip()], cwd=sim.folder, env=clean_environment() | {"PATH": path},
        capture_output=True, text=True, timeout=60 * SLOWNESS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row.split()[:2] for row in done.stdout.splitlines()[1:3]] == [
        ["100", sim.ids()["m1"]],
        ["200", sim.ids()["m2"]],
    ]


def test_at_the_end_no_process_and_no_listener_is_left(sim: Sim) -> None:
    again = sim.cli("--port", "0", "--api-port", "0", "--dns-port", "0")
    assert "another flyatc sim runs" in again.stderr
    assert sim.stop() == 0
    reported = (sim.folder / ".flyatc-sim" / "m1" / "machine.log").read_text()
    assert "stopped: all is saved" in reported
    assert "no simulator runs" in sim.cli("ps").stderr
