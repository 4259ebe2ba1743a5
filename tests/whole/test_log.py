"""The log of a daemon: one JSON object a line from every source, nothing lost, and no request delayed by it."""

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO

from whole.conftest import StartDaemon
from whole.daemon import Daemon, clean_environment, config, eventually, restless
from whole.terminals import Terminal
from whole.visits import Line

LONGEST = 100_000  # octets of a line, whatever an app writes: 16 KB of text, escaped


def test_no_line_is_lost_when_the_daemon_ends_amid_requests(start: StartDaemon) -> None:
    daemon = start(config())
    daemon.get("/bob/echo")

    def visit(worker: int) -> None:
        with Line(daemon) as line:
            for n in range(100):
                assert line.get("/bob/count", f"X-Request-Id: w{worker}n{n}").status == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(8)))
    assert daemon.stop() == 0
    reported = [line["request_id"] for line in daemon.reported("request")]
    assert sorted(reported[1:]) == sorted(f"w{worker}n{n}" for worker in range(8) for n in range(100))
    assert daemon.lines()[-1]["msg"] == "stopped: all is saved"


def test_all_sources_use_the_same_form(start: StartDaemon) -> None:
    daemon = start(config(flags=("--binary-output", "--long-line", "1000000")))
    daemon.get("/bob/echo")
    eventually(lambda: len(daemon.reported("y", tenant="bob")) > 60, 10, "a megabyte, in parts")
    daemon.stop()
    for raw in daemon.log_file.read_bytes().splitlines():
        assert len(raw) < LONGEST
        line = json.loads(raw)
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in ("info", "warning", "error")
        assert isinstance(line["msg"], str)
    spoken = [line for line in daemon.lines() if "stream" in line]
    assert {(line["tenant"], line["stream"]) for line in spoken} == {("bob", "stdout")}
    assert sum(line["msg"].count("y") for line in spoken if set(line["msg"]) == {"y"}) == 1_000_000
    assert "smörgås €" in {line["msg"] for line in spoken}
    assert {line["tenant"] for line in daemon.reported("tenant ready")} == {"bob"}


def test_an_app_that_floods_its_output_costs_the_others_nothing(start: StartDaemon) -> None:
    users = "users: {loud: {stop_grace: 500ms}, bob: {}}"
    daemon = start(config(users=users, flags=()).replace("loud: {", f"loud: {{command: {restless('--flood')}, "))
    assert daemon.get("/loud/echo").status == 200
    for _ in range(50):
        assert daemon.get("/bob/echo").status == 200
    assert daemon.cli("stop", "loud").returncode == 0
    assert daemon.stop() == 0
    assert not [line for line in daemon.lines() if "text" in line], "every line is JSON"


class Blocked:
    """A daemon whose output is a pipe which no one reads beyond the first lines."""

    def __init__(self, daemon: Daemon) -> None:
        daemon.folder.mkdir()
        daemon.write()
        daemon.process = self.process = subprocess.Popen(
            [sys.executable, "-m", "flyatc", "serve", "--config", str(daemon.config_file)],
            stdout=subprocess.PIPE,
            cwd=daemon.folder,
            env=clean_environment(),
            bufsize=0,
        )
        assert self.process.stdout is not None
        self.out: IO[bytes] = self.process.stdout
        for raw in self.out:
            line = json.loads(raw)
            if line["msg"] == "listening":
                daemon.port = int(line["on"].rpartition(":")[2])
                break


def test_a_pipe_without_a_reader_never_delays_a_request(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "blocked", config(flags=("--chatter", "1000")))
    try:
        blocked = Blocked(daemon)
        assert daemon.get("/bob/echo").status == 200
        agent = "User-Agent: " + "x" * 30_000
        with Line(daemon) as line:
            for _ in range(700):  # 21 MB of log: the pipe, and then all that is kept, are full
                assert line.get("/nonesuch/", agent).status == 404
            assert line.get("/bob/echo").status == 200
        assert daemon.cli("status").returncode == 0
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0, "it ends as well"
        blocked.out.close()
    finally:
        daemon.clean_up()


def test_a_closed_output_ends_nothing(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "closed", config())
    try:
        blocked = Blocked(daemon)
        blocked.out.close()
        for _ in range(20):
            assert daemon.get("/bob/echo").status == 200
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def test_without_any_output_nothing_is_written_where_it_does_not_belong(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "closed", config())
    daemon.folder.mkdir()
    daemon.write()
    try:
        command = [sys.executable, "-m", "flyatc", "serve", "--config", str(daemon.config_file)]
        daemon.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], env=clean_environment()
        )
        run = eventually(lambda: (done := daemon.cli("status", "--json")).returncode == 0 and done, 20, "an answer")
        daemon.port = int(json.loads(run.stdout)["daemon"]["listen"].rpartition(":")[2])
        assert [daemon.post("/bob/add").json["count"] for _ in range(3)] == [1, 2, 3]
        for number in (0, 1, 2):
            assert str(Path(f"/proc/{daemon.pid}/fd/{number}").readlink()) == "/dev/null"
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def serve_on_terminal(daemon: Daemon, **environment: str) -> Terminal:
    daemon.folder.mkdir(parents=True)
    daemon.write()
    terminal = Terminal(daemon, ("serve",), environment)
    daemon.process = terminal.process
    shown = COLOURS.sub("", terminal.until_shown("tenants="))
    found = re.search(r"listening on=127\.0\.0\.1:(\d+)", shown)
    assert found is not None
    daemon.port = int(found[1])
    return terminal


def test_on_a_terminal_the_log_is_readable_and_coloured_and_escapes_are_harmless(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "terminal", config(flags=("--binary-output",)))
    try:
        terminal = serve_on_terminal(daemon)
        terminal.until_shown(f"http://127.0.0.1:{daemon.port}/ann/one/")
        hostile = "\x9b2Jred\x9d0;title"
        with Line(daemon) as line:
            assert line.get("/bob/echo?q=%1b[2J", f"User-Agent: {hostile}").status == 200
            assert line.get("/nonesuch/\x9b2J", f"User-Agent: {hostile}").status in (400, 404)
        with Line(daemon) as line:
            assert line.send(b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n").reply().status == 400
        terminal.until_shown("smörgås")
        terminal.until_shown("refused")
        terminal.process.send_signal(signal.SIGINT)
        code, shown = terminal.end()
        assert code == 0
        assert "\x1b[32m200" in shown
        assert "\x1b[1mbob\x1b[0m" in shown
        assert "cold, waited" in shown
        assert not CONTROL.search(COLOURS.sub("", shown)), "nothing but our colours"
        assert "stopped: all is saved" in shown
    finally:
        daemon.clean_up()


def test_text_may_be_asked_for_and_has_no_colours_in_a_file(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "text", config(top="log: {format: text}"))
    try:
        daemon.folder.mkdir()
        daemon.write()
        with daemon.log_file.open("wb") as log:
            command = [sys.executable, "-m", "flyatc", "serve", "--config", str(daemon.config_file)]
            daemon.process = subprocess.Popen(command, stdout=log, env=clean_environment())
        eventually(lambda: "http://" in daemon.log_file.read_text(), 20, "the addresses")
        assert daemon.stop() == 0
        shown = daemon.log_file.read_text()
        assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} info    listening on=127", shown)
        assert "\x1b" not in shown
    finally:
        daemon.clean_up()


def test_json_may_be_asked_for_on_a_terminal_and_colours_declined(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "json", config(top="log: {format: json}"))
    try:
        daemon.folder.mkdir()
        daemon.write()
        terminal = Terminal(daemon, ("serve",))
        first = terminal.until_shown("\n").splitlines()[0]
        assert json.loads(first)["msg"] == "listening"
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end()[0] == 0
    finally:
        daemon.process = None
        daemon.clean_up()
    plain = Daemon(tmp_path / "plain", config())
    try:
        terminal = serve_on_terminal(plain, NO_COLOR="1")
        plain.get("/bob/echo")
        terminal.process.send_signal(signal.SIGTERM)
        code, shown = terminal.end()
        assert (code, "\x1b" in shown) == (0, False)
        assert "GET /bob/echo" in shown
    finally:
        plain.clean_up()


def test_the_level_decides_which_events_are_logged_and_requests_may_be_silent(start: StartDaemon) -> None:
    daemon = start(config(top="log: {requests: false}"))
    daemon.get("/bob/echo")
    daemon.until_reported("tenant ready")
    daemon.config = daemon.config.replace("requests: false", "requests: true")
    daemon.write()
    assert daemon.cli("reload").returncode == 0
    daemon.get("/bob/echo?reported=1")
    assert daemon.until_reported("request")["query"] == "reported=1"
    assert daemon.stop() == 0
