"""flyatc exec where the user belongs to another machine, or comes to belong to it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slowness import SLOWNESS
from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, clean_environment, config, eventually

PYTHON = (sys.executable, "-S", "-c")
COUNT = """
import os, pathlib, sqlite3, sys, time
database = sqlite3.connect(os.environ["DATABASE_PATH"])
if len(sys.argv) > 1:
    database.execute("create table migrated (n)")
    database.commit()
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)
print(len(database.execute("select * from sqlite_master where name = 'migrated'").fetchall()))
"""


@pytest.fixture
def pair(start: StartDaemon, tmp_path: Path) -> tuple[Daemon, Daemon]:
    url = f"url: 'file:{tmp_path / 'shared'}', session_ttl: 10s"
    text = config(idle="60s").replace("{interval: 0}", f"{{interval: 0, {url}}}")
    return start(text), start(text)


def test_a_command_for_a_user_of_another_machine_names_it_and_a_rehearsal_runs_here(
    pair: tuple[Daemon, Daemon],
) -> None:
    home, away = pair
    assert home.post("/ann/one/add").json["count"] == 1
    assert home.cli("backup", "ann/one").returncode == 0
    refused = away.cli("exec", "ann/one", "--", "true")
    assert refused.returncode == 1
    assert evidence.machine(home) in refused.stderr
    assert "flyatc release ann" in refused.stderr
    run = away.cli("exec", "--all", "--json", "--", "true")
    found = json.loads(run.stdout)
    assert (run.returncode, found["done"], found["failed"]) == (0, 0, [])
    [elsewhere] = found["elsewhere"]
    assert (elsewhere["tenant"], evidence.machine(home) in elsewhere["machine"]) == ("ann/one", True)
    plain = away.cli("exec", "--user", "ann", "--", "true")
    assert f"{evidence.machine(home)}, give this command there: ann/one" in plain.stderr
    rehearsed = away.cli("exec", "ann/one", "--rehearse", "--", *PYTHON, COUNT)
    assert (rehearsed.returncode, rehearsed.stdout) == (0, "0\n"), rehearsed.stderr
    assert home.status("ann/one")["state"] == "ready"
    assert home.stop() == 0
    assert away.cli("exec", "--all", "--", "true").returncode == 0
    assert away.stop() == 0


def test_a_command_ends_with_the_lease_and_nothing_of_it_reaches_the_next_holder(
    pair: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    home, away = pair
    assert home.post("/ann/one/add").json["count"] == 1
    file = home.folder / "pid"  # in the app's directory, where it may write
    words = ["exec", "--all", "--json", "--", *PYTHON, COUNT, str(file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "flyatc", *home.configured(words)],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    pid = int(eventually(lambda: file.exists() and file.read_text(), 20, "the command"))
    os.kill(home.pid, signal.SIGSTOP)
    eventually(lambda: not evidence.alive(pid), 30, "the end of the command, by the supervisor")
    evidence.grow_old(home, tmp_path / "shared")
    assert eventually(lambda: (now := away.get("/ann/one/count")).status == 200 and now, 20).json["count"] == 1
    os.kill(home.pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=30 * SLOWNESS)
    [failed] = json.loads(output)["failed"]
    assert process.returncode == 1
    assert "may not write" in failed["error"]
    assert away.cli("exec", "ann/one", "--", *PYTHON, COUNT).stdout == "0\n"
    assert away.stop() == 0
    eventually(lambda: home.get("/ann/one/count").status == 200, 20, "home again")
    assert home.cli("exec", "ann/one", "--", *PYTHON, COUNT).stdout == "0\n"
    assert home.stop() == 0
