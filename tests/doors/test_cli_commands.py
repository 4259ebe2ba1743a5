"""The command line as a process: output and exit code. The daemon is a fake on a real socket."""

import asyncio
import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import pytest

import fork_server
from fakes.operations import STARTED, Desk
from flyatc import __version__
from flyatc.cli.main import COMMANDS, flyatc
from flyatc.control import listeners
from flyatc.kit.errors import SaveFailed
from flyatc.observe.log import Log
from slowness import SLOWNESS

TENANTS = """\
server: {data: ./data}
app: {command: [python3, app.py]}
users:
  bellevue: {tenants: [2025/winter, 2025/summer]}
  "*": {match: "[0-9]+"}
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PORT", "NO_COLOR")}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tenants.yaml").write_text(TENANTS)
    return tmp_path


def run(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return fork_server.run(arguments, here, ENVIRONMENT, 30 * SLOWNESS)


async def ask(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, here, *arguments)


def on_terminal(here: Path, arguments: list[str], typed: bytes = b"", **environment: str) -> tuple[int, str]:
    """The exit code, and all that a terminal of 200 columns shows."""
    outer, inner = pty.openpty()
    environ = ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "200"} | environment
    with subprocess.Popen(
        [sys.executable, "-m", "flyatc", *arguments], cwd=here, env=environ, stdin=inner, stdout=inner, stderr=inner
    ) as child:
        os.close(inner)
        os.write(outer, typed)
        shown = b"".join(_until_closed(outer))
        return child.wait(30), shown.decode()


def _until_closed(terminal: int) -> Iterator[bytes]:
    try:
        while data := os.read(terminal, 65536):
            yield data
    except OSError:  # EIO: no one holds the other side any more
        pass
    finally:
        os.close(terminal)


@contextlib.asynccontextmanager
async def daemon(here: Path) -> AsyncIterator[Desk]:
    desk, log = Desk(), Log(io.BytesIO())
    one = listeners.Listeners(desk, log, here / "data", None)
    await one.open()
    try:
        yield desk
    finally:
        await one.close()
        log.close()


# --- without a daemon ---


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(here: Path, arguments: list[str]) -> None:
    done = run(here, *arguments)
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_every_command_is_there_and_has_help() -> None:
    for name in COMMANDS:
        command = flyatc.get_command(flyatc.make_context("flyatc", ["version"]), name)
        assert command is not None
        assert command.name == name
        assert command.help
        for one in command.commands.values() if isinstance(command, click.Group) else [command]:
            wanted = {"sim": "--data", "init": "folder", "api": "--openapi"}.get(name, "--config")  # these need no file
            assert wanted in {option for parameter in one.params for option in parameter.opts}


def test_a_command_that_calls_the_daemon_starts_without_the_daemons_libraries(here: Path) -> None:
    code = (
        "import sys; from flyatc.cli.main import run; run(['status']); run(['route', '/bellevue/2025/winter/']);"
        "heavy = {'asyncio', 'uvloop', 'httptools', 'zstandard', 'rich', 'prometheus_client'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, timeout=30 * SLOWNESS, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_daemon_starts_without_the_libraries_that_it_may_never_need() -> None:
    code = (
        "import sys, flyatc.cli.serve, flyatc.daemon.daemon;"
        "rare = {'aiohttp', 'boto3', 'dns', 'email.parser', 'html', 'http.client', 'jinja2', 'passlib',"
        " 'prometheus_client', 'rich', 'tarfile', 'tomllib'};"
        "print(sorted(rare & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30 * SLOWNESS, check=True
    )
    assert done.stdout == "[]\n"


def test_version(here: Path) -> None:
    assert run(here, "version").stdout.startswith(f"flyatc {__version__} (Python ")
    assert run(here, "--version").stdout == f"flyatc {__version__}\n"
    assert run(Path("/"), "version").returncode == 0


def test_check_sums_up_a_sound_file(here: Path) -> None:
    done = run(here, "check")
    assert done.returncode == 0
    assert f"{here / 'tenants.yaml'}: no faults" in done.stdout
    assert "1 user, 2 tenants, and others by the pattern [0-9]+" in done.stdout


def test_check_reports_all_faults_at_once(here: Path) -> None:
    (here / "tenants.yaml").write_text(TENANTS + "serve: 1\nlimits: {runing: 3}\n")
    for command in (["check"], ["orphans"], ["check", "--config", "tenants.yaml"]):
        done = run(here, *command)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "tenants.yaml:6" in done.stderr
        assert "did you mean running" in done.stderr
        assert len(done.stderr.splitlines()) == 2


def test_check_looks_the_programs_up(here: Path) -> None:
    (here / "app.sh").write_text("#!/bin/sh\n")
    (here / "tenants.yaml").write_text(
        "app: {command: [pyhton3, app.py], before_start: [./app.sh], env: {PORT: '80'}}\n"
        "users: {a: , b: {command: [sh]}}\n"
    )
    done = run(here, "check")
    assert done.returncode == 1
    assert "tenants.yaml:1: app.command[0]: there is no program 'pyhton3' in PATH" in done.stderr
    assert "tenants.yaml:1: app.before_start[0][0]: there is no program './app.sh' in " in done.stderr, (
        "it may not be run"
    )
    assert "tenants.yaml:1: app.env.PORT: is chosen by flyatc" in done.stderr
    assert len(done.stderr.splitlines()) == 3
    (here / "app.sh").chmod(0o700)
    assert "before_start" not in run(here, "check").stderr


def test_check_prints_the_schema_without_a_file(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "check", "--schema").stdout)["title"] == "tenants.yaml"


def test_a_missing_configuration_is_reported_with_the_places_searched(tmp_path: Path) -> None:
    done = run(tmp_path, "status")
    assert done.returncode == 1
    assert "/etc/flyatc/tenants.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["status"], ["logs"], ["stop", "bellevue"], ["restore", "bellevue", "--list"]])
def test_without_a_daemon_commands_say_so(here: Path, command: list[str]) -> None:
    done = run(here, *command)
    assert done.returncode == 1
    assert "start it with flyatc serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [["statsu"], ["stop"], ["status", "--frob"], ["stop", "  "], ["logs", "-n", "x"], ["route", "\udcff"]]
)
def test_wrong_usage_is_2(here: Path, command: list[str]) -> None:
    assert run(here, *command).returncode == 2


def test_route_works_from_the_file_alone(here: Path) -> None:
    done = run(here, "route", "https://example.com/bellevue/2025/winter/heats")
    assert done.returncode == 0
    assert "tenant    bellevue/2025/winter\n" in done.stdout
    assert "state     unknown: no daemon is running\n" in done.stdout
    refused = run(here, "route", "/nonesuch/", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["why"] == "no such user"


def test_a_closed_output_ends_the_command_without_an_error(here: Path) -> None:
    command = [sys.executable, "-m", "flyatc", "check", "--schema"]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""


# --- with one ---


async def test_status_is_a_table_for_programs_and_json(here: Path) -> None:
    async with daemon(here):
        plain = await ask(here, "status")
        assert [line.split(maxsplit=7) for line in plain.stdout.splitlines()] == [
            ["TENANT", "STATE", "SINCE", "REQUESTS", "PID", "PORT", "SAVED", "NOTE"],
            ["bellevue/2025/winter", "ready", STARTED, "2", "4711", "40001", STARTED, "crashes: 1; last: exit code 1"],
            ["bellevue/2025/summer", "stopped", STARTED, "0", "-", "-", "-", "-"],
        ]
        reported = json.loads((await ask(here, "status", "--json", "--config", str(here / "tenants.yaml"))).stdout)
        assert reported["tenants"][0]["pid"] == 4711
        assert reported["tenants"][1]["state"] == "stopped"
        assert reported["daemon"]["version"] == __version__


async def test_status_on_a_terminal_is_coloured_unless_asked_not_to(here: Path) -> None:
    async with daemon(here):
        code, shown = await asyncio.to_thread(on_terminal, here, ["status"])
        assert code == 0
        assert "ago" in shown
        assert "\x1b[32mready" in shown
        _, plain = await asyncio.to_thread(on_terminal, here, ["status"], NO_COLOR="1")
        assert "\x1b[32m" not in plain
        assert "listens on *:3000; 1 of 20 apps at most" in plain


BROKEN = {
    "a variable of the daemon": "server: {data: ./data}\napp: {env: {KEY: '${MASTER}'}}\nusers: {bellevue: null}\n",
    "a key": TENANTS + "limits: {runing: 3}\n",
    "no YAML below": TENANTS + "storage: [\n",
    "no YAML above": "app: {\tcommand: [}\n" + TENANTS,
    "no YAML, and the default": "app: {command: [}\n",
    "no text": "server:\n  data: ./data\napp: \x00\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
async def test_a_fault_in_the_file_does_not_keep_anyone_from_the_daemon(here: Path, text: str) -> None:
    (here / "tenants.yaml").write_text(text)
    async with daemon(here) as desk:
        for command in (["status"], ["stop", "bellevue/2025/winter"], ["logs"], ["reload"], ["pause"], ["resume"]):
            done = await ask(here, *command)
            assert done.returncode == 0, done.stderr
    assert "stop bellevue/2025/winter" in desk.reported
    assert (await ask(here, "check")).returncode == 1


@pytest.mark.parametrize(
    "text", ["{server: {listen: [}, data: x}", "server: {data: [a]}", "x: [}\n server: {data: a}\nb: c"]
)
async def test_where_the_file_hides_the_data_folder_it_is_named_by_hand(here: Path, text: str) -> None:
    (here / "tenants.yaml").write_text(text)
    async with daemon(here):
        done = await ask(here, "status")
        assert done.returncode == 1
        assert "tenants.yaml" in done.stderr
        assert "name the daemon's folder with --data" in done.stderr
        assert (await ask(here, "status", "--data", "data")).returncode == 0
        (here / "tenants.yaml").unlink()
        assert (await ask(here, "status", "--data", "data")).returncode == 0
        assert (await ask(here, "status")).returncode == 1


async def test_the_daemon_says_which_tenant_a_pasted_url_means(here: Path) -> None:
    async with daemon(here) as desk:
        assert (await ask(here, "stop", "https://example.com/bellevue/2025/winter/")).returncode == 0
        assert (await ask(here, "stop", "/")).returncode == 2
    assert desk.reported[:2] == ["address https://example.com/bellevue/2025/winter/", "stop bellevue/2025/winter"]


async def test_start_stop_and_restart_report_the_result(here: Path) -> None:
    async with daemon(here) as desk:
        for verb in ("start", "stop", "restart"):
            done = await ask(here, verb, "/bellevue/2025/winter/")
            assert done.stdout == "bellevue/2025/winter is ready, pid 4711, port 40001\n"
        assert len((await ask(here, "stop", "bellevue")).stdout.splitlines()) == 2
        assert desk.reported[-1] == "stop bellevue"
        assert (await ask(here, "stop", "100")).stdout == "100 is stopped\n"
        done = await ask(here, "stop", "nonesuch")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "there is no tenant 'nonesuch'; did you mean bellevue/2025/winter?\n"


async def test_a_command_that_fails_says_why_in_a_sentence(here: Path) -> None:
    async with daemon(here) as desk:
        desk.fails = SaveFailed("the store is full; the local copy is kept")
        done = await ask(here, "backup", "bellevue/2025/winter")
        assert done.returncode == 1
        assert done.stderr == "the store is full; the local copy is kept\n"


async def test_a_copy_needs_the_name_of_a_file(here: Path) -> None:
    async with daemon(here) as desk:
        for name in ("-", ""):
            done = await ask(here, "copy", "bellevue/2025/winter", "app.sqlite3", name)
            assert (done.returncode, "write the name of a file" in done.stderr) == (2, True)
    assert desk.reported == []


async def test_reload_reports_what_changed(here: Path) -> None:
    async with daemon(here):
        done = await ask(here, "reload")
        assert done.stdout == "boston: added\nserver.listen: waits for a restart of the daemon\n"


async def test_logs_are_json_lines_for_programs(here: Path) -> None:
    line = b'{"time":"2026-03-01T12:00:00.000000Z","level":"info","msg":"tenant ready","tenant":"bellevue/2025/winter"}'
    async with daemon(here) as desk:
        desk.journal.add("bellevue/2025/winter", line)
        desk.journal.add("boston", b"{}")
        assert (await ask(here, "logs", "bellevue")).stdout.encode() == line + b"\n"
        assert len((await ask(here, "logs", "-n", "1")).stdout.splitlines()) == 1
        none = await ask(here, "logs", "nonesuch")
        assert none.stdout == ""
        assert "keeps no lines of nonesuch" in none.stderr
        _, shown = await asyncio.to_thread(on_terminal, here, ["logs", "bellevue"], NO_COLOR="1")
        assert shown.rstrip().endswith("info    bellevue/2025/winter tenant ready")


async def test_following_ends_quietly_at_ctrl_c_and_with_a_sentence_at_the_daemons_end(here: Path) -> None:
    command, pipe = [sys.executable, "-m", "flyatc", "logs", "-f"], asyncio.subprocess.PIPE
    async with daemon(here) as desk:
        desk.journal.add(None, b'{"n":1}')
        children = [
            await asyncio.create_subprocess_exec(*command, cwd=here, env=ENVIRONMENT, stdout=pipe, stderr=pipe)
            for _ in range(2)
        ]
        for child in children:
            assert child.stdout is not None
            assert await asyncio.wait_for(child.stdout.readline(), 20 * SLOWNESS) == b'{"n":1}\n'
        desk.journal.add(None, b'{"n":2}')
        for child in children:
            assert child.stdout is not None
            assert await asyncio.wait_for(child.stdout.readline(), 20 * SLOWNESS) == b'{"n":2}\n'
        children[0].send_signal(2)
        _, reported = await asyncio.wait_for(children[0].communicate(), 20 * SLOWNESS)
        assert (children[0].returncode, reported.strip()) == (130, b"")
    _, reported = await asyncio.wait_for(children[1].communicate(), 20 * SLOWNESS)
    assert (children[1].returncode, reported) == (1, b"the daemon ended in the midst of its response\n")


async def test_backup_and_restore_print_the_versions(here: Path) -> None:
    async with daemon(here) as desk:
        done = await ask(here, "backup", "bellevue/2025/winter", "a.db")
        assert done.stdout.splitlines()[1].split() == ["a.db", "000001-000000002", STARTED, "2048", "512", "current"]
        history = await ask(here, "restore", "bellevue/2025/winter", "--list", "--json")
        assert [one["id"] for one in json.loads(history.stdout)["versions"]] == ["000001-000000002", "000001-000000001"]
        assert not [reported for reported in desk.reported if reported.startswith("restore")]
        done = await ask(here, "restore", "bellevue/2025/winter", "a.db", "--version", "000001-000000001")
        assert done.returncode == 0
        assert "restore bellevue/2025/winter a.db 000001-000000001" in desk.reported


async def test_restore_asks_on_a_terminal_first(here: Path) -> None:
    async with daemon(here) as desk:
        desk.steps = [("download", 100, 100)]
        code, shown = await asyncio.to_thread(on_terminal, here, ["restore", "bellevue/2025/winter"], b"n\n")
        assert code == 1
        assert "Replace all databases of bellevue/2025/winter" in shown
        assert "nothing was changed" in shown
        assert desk.reported == []
        code, shown = await asyncio.to_thread(on_terminal, here, ["restore", "bellevue/2025/winter", "--yes"])
        assert code == 0
        assert "download" in shown
        assert desk.reported[0] == "restore bellevue/2025/winter None None"
