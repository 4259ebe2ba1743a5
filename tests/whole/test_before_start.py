"""Commands before the app, as migrations are: with real processes, and their data in the store."""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from whole.conftest import StartDaemon
from whole.daemon import Daemon, eventually
from whole.test_idle_work import APPS, JOBS
from whole.test_servers_python_and_node import module

MIGRATE = """
import os, sqlite3, subprocess, sys
print("migrating", os.getcwd(), flush=True)
db = sqlite3.connect(os.environ["DATABASE_PATH"])
db.execute("CREATE TABLE IF NOT EXISTS migrations (id INTEGER PRIMARY KEY)")
db.execute("INSERT INTO migrations DEFAULT VALUES")
db.commit()
"""
DAEMONIZE = (
    MIGRATE
    + """
left = subprocess.Popen(["sleep", "3600"], start_new_session=True)
print("left", left.pid, flush=True)
"""
)
FAIL = (
    MIGRATE
    + """
sys.exit("column email exists already")
"""
)
HANG = (
    MIGRATE
    + """
import time; time.sleep(3600)
"""
)


def config(*programs: str, mode: str = "snapshot", app: str = "") -> str:
    before = json.dumps([[sys.executable, "-c", program] for program in programs])
    before = before.replace("{", "{{").replace("}", "}}")
    return f"""
server: {{listen: 127.0.0.1:0}}
app:
  directory: {APPS}
  command: {module(*JOBS)}
  before_start: {before}
  env: {{SCRIPT_NAME: "{{prefix}}", DATABASE_PATH: "{{data}}/jobs.sqlite3"}}
  databases: [jobs.sqlite3]
  idle: 1h
  start_timeout: 60s
{app}
storage: {{mode: {mode}, interval: 0}}
users: {{ann: }}
"""


def migrations(daemon: Daemon) -> int:
    file = daemon.folder / "data/tenants/ann/~/jobs.sqlite3"
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        found = int(db.execute("SELECT count(*) FROM migrations").fetchone()[0])
    db.close()
    return found


@pytest.mark.parametrize("mode", ["snapshot", "litestream"])
def test_they_run_at_each_start_on_the_restored_data_with_their_output_in_the_log(
    start: StartDaemon, mode: str
) -> None:
    daemon = start(config(MIGRATE, MIGRATE, mode=mode))
    assert daemon.get("/ann/rows").status == 200
    assert len(daemon.reported(f"migrating {APPS}", tenant="ann")) == 2
    assert daemon.cli("stop", "ann").returncode == 0
    shutil.rmtree(daemon.folder / "data/tenants/ann")
    assert daemon.get("/ann/rows").status == 200
    assert migrations(daemon) == 4
    states = [line["state"] for line in daemon.lines() if line.get("tenant") == "ann" and "state" in line]
    assert states[:5] == ["owning", "restoring", "preparing", "starting", "ready"]


def test_a_failure_is_a_502_with_the_reason_in_the_log_and_what_it_wrote_is_saved(start: StartDaemon) -> None:
    daemon = start(config(MIGRATE, FAIL))
    answer = daemon.get("/ann/rows")
    assert answer.status == 502
    failed = daemon.until_reported("the start failed", tenant="ann")
    assert "failed (exit code 1): the app is not started" in failed["reason"]
    assert "column email exists already" in failed["reason"]
    assert "preparing" in [line.get("was") for line in daemon.reported("tenant saving")]
    assert daemon.reported("tenant starting") == []
    daemon.until_reported("saved", database="jobs.sqlite3")
    eventually(lambda: daemon.status("ann")["state"] == "failed", what="the end of its run")
    assert "before_start" in daemon.cli("status").stdout


def test_their_descendants_are_ended_before_the_app_starts(start: StartDaemon) -> None:
    daemon = start(config(DAEMONIZE))
    assert daemon.get("/ann/rows").status == 200
    pid = int(daemon.until_reported("left ", tenant="ann")["msg"].split()[1])
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_takes_too_long_is_ended(start: StartDaemon) -> None:
    daemon = start(config(HANG, app="  before_start_timeout: 2s\n  stop_grace: 1s"))
    assert daemon.get("/ann/rows").status == 502
    assert "took longer than before_start_timeout (2 s)" in daemon.until_reported("the start failed")["reason"]
    assert daemon.children() == []


def test_a_browser_sees_that_the_app_is_prepared_and_a_stop_ends_it(start: StartDaemon) -> None:
    daemon = start(config(HANG, app="  waiting_page_after: 1s"))
    page = daemon.get("/ann/rows", {"Accept": "text/html", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"})
    assert (page.status, "preparing · request" in page.text) == (503, True)
    assert daemon.status("ann")["state"] == "preparing"
    assert daemon.cli("stop", "ann").returncode == 0
    eventually(lambda: daemon.children() == [], 10, "the end of the command")
    assert daemon.status("ann")["state"] == "stopped"


def test_a_program_that_does_not_exist_is_a_failed_start(start: StartDaemon) -> None:
    text = config().replace("before_start: []", "before_start: [/no/such/program]")
    daemon = start(text)
    assert daemon.get("/ann/rows").status == 502
    assert "/no/such/program" in daemon.until_reported("the start failed")["reason"]
