"""The commands that query and steer, each against a running daemon."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fork_server
from slowness import SLOWNESS
from whole.conftest import StartDaemon
from whole.daemon import Daemon, clean_environment, config, eventually
from whole.terminals import Terminal
from whole.visits import serving

USERS = """\
users:
  bellevue: {tenants: [2025/winter, 2025/summer]}
  boston: {tenants: {2025/april: {idle: 30m}}}
  carl: {}
  "*": {match: "[0-9]{1,9}"}
"""
STATUS_FIELDS = {"tenant", "state", "pid", "port", "requests", "since", "last_exit"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("cli"), config(users=USERS)) as one:
        yield one


def said(daemon: Daemon, *arguments: str, code: int = 0) -> str:
    """Return what the command prints where programs read; the other stream is empty."""
    done = daemon.cli(*arguments)
    assert done.returncode == code, done.stderr
    assert not (done.stderr if code == 0 else done.stdout)
    return done.stdout if code == 0 else done.stderr


# --- status ---


def test_status_lists_every_configured_tenant_and_running_ones_by_pattern(daemon: Daemon) -> None:
    assert daemon.get("/bellevue/2025/winter/echo").status == 200
    assert daemon.get("/100/echo").status == 200
    reported = json.loads(said(daemon, "status", "--json"))
    by_name = {one["tenant"]: one for one in reported["tenants"]}
    assert list(by_name) == ["bellevue/2025/winter", "bellevue/2025/summer", "boston/2025/april", "carl", "100"]
    for one in by_name.values():
        assert set(one) >= STATUS_FIELDS
    ready, stopped = by_name["bellevue/2025/winter"], by_name["boston/2025/april"]
    assert (ready["state"], ready["requests"], ready["last_exit"]) == ("ready", 0, None)
    os.kill(ready["pid"], 0)
    assert 1024 < ready["port"] < 65536
    assert (stopped["state"], stopped["pid"], stopped["port"]) == ("stopped", None, None)
    assert reported["daemon"]["listen"] == f"127.0.0.1:{daemon.port}"
    assert reported["daemon"]["pid"] == daemon.pid


def test_status_of_a_user_or_tenant_lists_those_only(daemon: Daemon) -> None:
    def listed(scope: str) -> list[str]:
        return [one["tenant"] for one in json.loads(said(daemon, "status", scope, "--json"))["tenants"]]

    assert listed("bellevue") == ["bellevue/2025/winter", "bellevue/2025/summer"]
    assert listed(f"http://127.0.0.1:{daemon.port}/boston/2025/april/echo") == ["boston/2025/april"]
    assert "'bos' is neither a user nor a tenant" in said(daemon, "status", "bos", code=2)


def test_status_is_a_table_whose_columns_programs_can_cut(daemon: Daemon) -> None:
    daemon.get("/carl/echo")
    head, *rows = said(daemon, "status").splitlines()
    assert head.split() == ["TENANT", "STATE", "SINCE", "REQUESTS", "PID", "PORT", "SAVED", "NOTE"]
    carl = next(row.split() for row in rows if row.startswith("carl "))
    assert carl[1] == "ready"
    assert (carl[4], carl[5]) == (str(daemon.status("carl")["pid"]), str(daemon.status("carl")["port"]))
    assert all(len(row.split()) >= 8 for row in rows)


def test_status_counts_requests_being_served(daemon: Daemon) -> None:
    daemon.get("/carl/echo")
    with daemon.connect() as visitor:
        visitor.sendall(b"GET /carl/slow?s=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: daemon.status("carl")["requests"] == 1, 10, "one visitor")
    eventually(lambda: daemon.status("carl")["requests"] == 0, 10, "no visitor")


def test_status_on_a_terminal_is_for_people(daemon: Daemon) -> None:
    daemon.get("/carl/echo")
    eventually(lambda: "ago" in Terminal(daemon, ("status",)).end()[1], 10, "a second")  # until then: started now
    code, shown = Terminal(daemon, ("status",)).end()
    assert code == 0
    assert re.search(r"\x1b\[32mready", shown)
    assert "ago" in shown
    assert f"pid {daemon.pid}" in shown
    code, plain = Terminal(daemon, ("status",), {"NO_COLOR": "1"}).end()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain), "no colours"
    assert "ready" in plain


# --- start, stop, restart ---


def test_a_tenant_is_started_stopped_and_restarted_by_hand(daemon: Daemon) -> None:
    started = said(daemon, "start", "boston/2025/april")
    first = daemon.status("boston/2025/april")
    assert started == f"boston/2025/april is ready, pid {first['pid']}, port {first['port']}\n"
    assert said(daemon, "start", "boston/2025/april") == started, "what runs goes on running"
    said(daemon, "restart", "boston/2025/april")
    second = daemon.status("boston/2025/april")
    assert (second["state"], second["starts"]) == ("ready", 2)
    assert second["pid"] != first["pid"]
    assert said(daemon, "stop", "boston/2025/april") == "boston/2025/april is stopped\n"
    assert daemon.status("boston/2025/april")["pid"] is None


def test_a_user_alone_means_all_its_tenants(daemon: Daemon) -> None:
    assert said(daemon, "start", "bellevue").count(" is ready") == 2
    assert said(daemon, "restart", "bellevue").count(" is ready") == 2
    assert said(daemon, "stop", "bellevue").count(" is stopped") == 2


def test_a_user_by_pattern_is_started_and_stopped_too(daemon: Daemon) -> None:
    assert said(daemon, "start", "4711").startswith("4711 is ready, pid ")
    assert said(daemon, "stop", "4711") == "4711 is stopped\n"


@pytest.mark.parametrize("pasted", ["/carl/", "http://localhost:3000/carl/page?x=1"])
def test_an_address_may_be_pasted_from_the_browser(daemon: Daemon, pasted: str) -> None:
    assert said(daemon, "start", pasted).startswith("carl is ready")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stop", "bellvue"], "'bellvue'; did you mean bellevue?"),
        (["start", "bellevue/2025/wintr"], "did you mean bellevue/2025/winter?"),
        (["backup", "bellevue/2025"], "did you mean bellevue/2025/"),
        (["backup", "carol"], "did you mean carl?"),
        (["restore", "--list", "qqqq"], "flyatc status lists them"),
        (["restart", "../carl"], "there is no tenant '../carl'"),
    ],
)
def test_an_unknown_user_is_reported_with_what_may_have_been_meant(
    daemon: Daemon, arguments: list[str], hint: str
) -> None:
    assert hint in said(daemon, *arguments, code=1)


def test_a_misspelled_command_is_reported_with_what_may_have_been_meant(daemon: Daemon) -> None:
    done = daemon.cli("statsu")
    assert done.returncode == 2
    assert "there is no command 'statsu'; did you mean status?" in done.stderr


def test_a_program_whose_name_is_like_a_command_is_run_only_if_that_is_said(start: StartDaemon) -> None:
    daemon = start(config())
    for name in ("statsu", "bun"):  # one near to a command, one not quite as near
        (daemon.folder / name).write_text("#!/bin/sh\necho it ran\n")
        (daemon.folder / name).chmod(0o700)
    environ = clean_environment() | {"PATH": f"{daemon.folder}:{os.environ['PATH']}", "HTTP_PORT": "0"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flyatc", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30 * SLOWNESS, check=False)

    refused = run("statsu")
    assert refused.returncode == 2
    assert "did you mean status? A program is run by: flyatc run -- statsu" in refused.stderr
    assert "it ran" not in refused.stdout
    assert "it ran" in run("run", "--", "statsu").stdout
    assert "it ran" in run("bun").stdout


def test_an_app_that_does_not_start_is_reported_with_its_reason(start: StartDaemon) -> None:
    daemon = start(config(users="users: {ann: {command: [sh, -c, 'echo no config; exit 3']}}"))
    assert "exit code 3" in said(daemon, "start", "ann", code=1)
    eventually(lambda: daemon.status("ann")["state"] == "failed", what="the end of its run")
    assert daemon.status("ann")["last_exit"] == "exit code 3: no config"
    assert "no config" in daemon.cli("logs", "ann").stdout


# --- logs ---


def test_logs_are_the_last_lines_of_one_tenant(daemon: Daemon) -> None:
    daemon.get("/carl/echo?mark=carls")
    daemon.get("/boston/2025/april/echo?mark=bostons")
    lines = [json.loads(line) for line in said(daemon, "logs", "carl").splitlines()]
    assert {line["tenant"] for line in lines} == {"carl"}
    assert lines[-1]["query"] == "mark=carls"
    everyone = [json.loads(line) for line in said(daemon, "logs", "-n", "2").splitlines()]
    assert len(everyone) == 2
    assert everyone[-1]["query"] == "mark=bostons"


def test_logs_follow_what_comes_promptly_and_of_the_chosen_tenant_only(daemon: Daemon) -> None:
    daemon.get("/carl/echo")
    with subprocess.Popen(
        [sys.executable, "-m", "flyatc", "logs", "-f", "-n", "1", "carl", "--config", str(daemon.config_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["tenant"] == "carl"
        daemon.get("/boston/2025/april/echo")
        daemon.get("/carl/echo?mark=followed")
        assert json.loads(follower.stdout.readline())["query"] == "mark=followed"
        follower.send_signal(signal.SIGINT)
        _, complaint = follower.communicate(timeout=30 * SLOWNESS)
    assert (follower.returncode, complaint.strip()) == (130, b"")


# --- route ---


def test_route_prints_the_same_with_a_daemon_and_the_state_besides(daemon: Daemon) -> None:
    daemon.get("/carl/echo")
    reported = said(daemon, "route", "/carl/orders?page=2")
    assert re.search(r"^tenant +carl$", reported, re.MULTILINE)
    assert re.search(r"^state +ready$", reported, re.MULTILINE)
    assert re.search(r"^app sees +/carl/orders\?page=2 ", reported, re.MULTILINE)
    found = json.loads(said(daemon, "route", "--json", "/bellevue/2025/winter"))
    assert (found["outcome"], found["status"], found["location"]) == ("redirect", 308, "/bellevue/2025/winter/")
    refused = daemon.cli("route", "/nonesuch/")
    assert refused.returncode == 1
    assert "no such user" in refused.stdout


# --- the rest ---


def test_check_reports_every_fault_with_its_place(daemon: Daemon) -> None:
    faulty = daemon.folder / "faulty.yaml"
    faulty.write_text("server: {listn: 3000}\napp: {idle: soon}\nusers:\n  Ann: {}\n")
    done = fork_server.run(["check", "--config", str(faulty)], daemon.folder, clean_environment(), 60 * SLOWNESS)
    assert done.returncode == 1
    for place in ("faulty.yaml:1", "faulty.yaml:2", "faulty.yaml:4"):
        assert place in done.stderr
    assert "did you mean 'listen'?" in done.stderr or "did you mean listen?" in done.stderr
    assert "no faults" in said(daemon, "check")


def test_the_schema_is_json_schema(daemon: Daemon) -> None:
    schema = json.loads(said(daemon, "check", "--schema"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    assert {"server", "app", "storage", "users", "limits", "machine_idle", "log"} <= set(root["properties"])


def test_reload_and_version(daemon: Daemon) -> None:
    assert said(daemon, "reload") == "reloaded: no tenant is added, removed or changed\n"
    assert re.fullmatch(r"flyatc \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+\S*\)\n", said(daemon, "version"))


def test_the_socket_is_its_owners_only(daemon: Daemon) -> None:
    socket = daemon.folder / "data" / ".flyatc" / "control.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_the_folders_of_data_and_store_are_their_owners_only(start: StartDaemon) -> None:
    daemon = start(config())
    assert daemon.post("/ann/one/add").status == 200
    assert daemon.stop() == 0
    for top in ("data", "store"):
        folders = [Path(folder) for folder, _, _ in os.walk(daemon.folder / top)]
        assert any(folder.name == "one" for folder in folders), "there is something of the tenant"
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_without_a_daemon_every_asking_command_says_so(start: StartDaemon) -> None:
    daemon = start(config())
    daemon.stop()
    for arguments in (["status"], ["stop", "bob"], ["logs", "-f"], ["backup", "bob"], ["restore", "bob"], ["reload"]):
        reported = said(daemon, *arguments, code=1)
        assert reported.startswith("no daemon is running with this configuration")
        assert "flyatc serve" in reported
    offline = said(daemon, "route", "/bob/x")
    assert "no daemon is running" in offline
    assert "bob" in offline
