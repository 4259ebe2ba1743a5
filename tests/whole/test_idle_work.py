"""Idle means idle: what requests leave behind runs on, and what only waits for requests is stopped."""

import json
import time
from pathlib import Path

import pytest

from whole.conftest import StartDaemon
from whole.daemon import Daemon
from whole.test_servers_python_and_node import GUNICORN, UVICORN, module

APPS = Path(__file__).parent.parent / "apps"
SERVERS = f"""
server: {{listen: 127.0.0.1:0}}
app:
  directory: {APPS}
  command: [python3]
  idle: 6s  # the first half is for what is still to be loaded
  start_timeout: 60s
storage: {{mode: none}}
users:
  sync:
    command: {module(*GUNICORN, "--workers", "2")}
    env: {{SCRIPT_NAME: "{{prefix}}"}}
  threads:
    command: {module(*GUNICORN, "--threads", "8")}
    env: {{SCRIPT_NAME: "{{prefix}}"}}
  uvicorn:
    command: {module(*UVICORN)}
  puma:
    command: [puma, -t, "0:5", -b, "tcp://127.0.0.1:{{port}}", rack/config.ru]
  node:
    command: [node, node_app.js]
"""
JOBS = ("gunicorn", "jobs_app:app", "--bind", "127.0.0.1:{port}", "--workers", "1", "--threads", "4")


def jobs(mode: str = "snapshot", app: str = "") -> str:
    return f"""
server: {{listen: 127.0.0.1:0}}
app:
  directory: {APPS}
  command: {module(*JOBS)}
  env: {{SCRIPT_NAME: "{{prefix}}", DATABASE_PATH: "{{data}}/jobs.sqlite3"}}
  databases: [jobs.sqlite3]
  idle: 2s
  start_timeout: 60s
{app}
storage: {{mode: {mode}, interval: 1s}}
users: {{ann: }}
"""


@pytest.mark.parametrize(
    "server",
    [
        "sync",
        "threads",
        "uvicorn",
        pytest.param("puma", marks=pytest.mark.needs("puma")),
        pytest.param("node", marks=pytest.mark.needs("node")),
    ],
)
def test_a_server_that_only_waits_is_idle(start: StartDaemon, server: str) -> None:
    daemon = start(SERVERS)
    assert daemon.get(f"/{server}/echo").status == 200
    ended = daemon.until_reported("tenant draining", 30, tenant=server)
    assert ended["why"] == "no request for 6 s"
    assert daemon.reported("kept running") == []


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("burn", "its processes use "),
        ("sleep", "a thread begun by"),
        ("fork", "a thread begun by"),
        ("trickle", "jobs."),
    ],
)
def test_a_job_that_a_request_leaves_behind_ends_before_its_app_is_stopped(
    start: StartDaemon, job: str, reason: str
) -> None:
    daemon = start(jobs())
    seconds = 7.0
    assert daemon.get(f"/ann/{job}?s={seconds}").text == "accepted"
    asked = time.monotonic()
    kept = daemon.until_reported("kept running without requests", 20, tenant="ann")
    assert reason in kept["why"]
    assert kept["why"] in daemon.cli("status").stdout
    daemon.until_reported("tenant stopped", 60)
    assert time.monotonic() - asked > seconds
    assert int(daemon.get("/ann/rows").text) >= 1, "the job has written"


def test_in_litestream_mode_the_saves_of_a_database_are_no_work_of_the_app(start: StartDaemon) -> None:
    daemon = start(jobs("litestream"))
    assert daemon.get("/ann/rows").text == "0"
    daemon.until_reported("tenant draining", 10, tenant="ann")
    assert daemon.reported("kept running") == []


def test_periodic_saves_are_no_work_of_the_app(start: StartDaemon) -> None:
    daemon = start(jobs())
    assert daemon.get("/ann/rows").text == "0"
    daemon.until_reported("tenant draining", 10, tenant="ann")
    assert daemon.reported("kept running") == []


def test_idle_most_ends_it_all_the_same(start: StartDaemon) -> None:
    daemon = start(jobs(app="  idle_most: 5s"))
    daemon.get("/ann/sleep?s=3600")
    assert "(idle_most)" in daemon.until_reported("tenant draining", 30, tenant="ann")["why"]


def test_a_stop_for_another_reason_ends_a_job_with_its_grace(start: StartDaemon) -> None:
    daemon = start(jobs())
    daemon.get("/ann/sleep?s=3600")
    daemon.until_reported("kept running without requests", 20, tenant="ann")
    assert daemon.cli("stop", "ann").returncode == 0
    assert state(daemon) == "stopped"


def state(daemon: Daemon) -> str:
    return str(json.loads(daemon.cli("status", "--json").stdout)["tenants"][0]["state"])
