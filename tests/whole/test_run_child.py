"""The wrapped program: its environment, its output, and how its exit becomes flyatc's."""

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from flyatc.process import proc
from flyatc.process.launch_plan import secret_words
from whole.daemon import eventually
from whole.wrapped import FOR_EVER, ending, gone, wrapped, wrapping

SIGNALS = ("HUP", "QUIT", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "INT", "TERM")

# Says each signal that comes, and goes on.
DEAF = f"""
import os, signal
for name in {SIGNALS!r}:
    signal.signal(getattr(signal, "SIG" + name), lambda number, _: os.write(1, b"got %d;\\n" % number))
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""
DEAF_APP = (sys.executable, "-S", "-c", DEAF)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255)]
)
def test_the_end_of_the_child_is_ours(tmp_path: Path, script: str, code: int) -> None:
    """Case 40."""
    with wrapping(tmp_path, "sh", "-c", script) as one:
        assert one.run() == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_that_ends_flyatc_ends_the_child(tmp_path: Path, number: int, code: int) -> None:
    """Case 40. HUP is a difference from thruster that is meant: there it leaves the child an orphan."""
    with wrapped(tmp_path, *FOR_EVER) as one:
        app = one.app
        one.signal(number)
        assert one.wait() == code
        assert gone(app)


def test_a_child_that_ends_by_itself_decides_the_exit_code(tmp_path: Path) -> None:
    """Case 40."""
    with wrapped(tmp_path, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done") as one:
        one.until_said("ready")
        one.signal(signal.SIGTERM)
        assert one.wait() == 5


def test_every_signal_is_relayed_each_time(tmp_path: Path) -> None:
    with wrapped(tmp_path, *DEAF_APP) as one:
        one.until_said("ready")
        for times in (1, 2):
            for name in SIGNALS:
                number = getattr(signal, f"SIG{name}")
                one.signal(number)
                one.until_said(f"got {number:d};", times)
        os.kill(one.app, signal.SIGKILL)
        assert one.wait() == 137


def test_what_the_terminal_sends_reaches_the_child_once(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with wrapping(tmp_path, *DEAF_APP) as one, one.log_file.open("ab") as log:
        one.process = subprocess.Popen(
            [sys.executable, "-m", "flyatc", *one.command],
            stdin=theirs,
            stdout=log,
            stderr=log,
            env=one.environment(),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        one.process.stdin = os.fdopen(ours, "wb", 0)
        os.close(theirs)
        one.until_said("ready")
        one.process.stdin.write(b"\x03")  # Ctrl-C
        one.until_said("got 2;")
        one.signal(signal.SIGUSR1)
        one.until_said(f"got {signal.SIGUSR1:d};")
        assert one.output.count("got 2;") == 1
        assert not one.reported("relaying SIGINT")
        os.kill(one.app, signal.SIGKILL)
        assert one.wait() == 137


def test_the_child_does_not_outlive_a_wrapper_that_is_killed(tmp_path: Path) -> None:
    with wrapped(tmp_path, *DEAF_APP) as one:
        one.until_said("ready")
        app = one.app
        one.kill()
        eventually(lambda: gone(app), what="the end of the child")


def test_the_child_has_our_environment_and_a_port_of_its_own(tmp_path: Path) -> None:
    """Case 42."""
    env = {"PORT": "9999", "SECRET_KEY_BASE": "s3cret", "AWS_REGION": "fra", "FLYATC_DEBUG": "0"}
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    with wrapping(tmp_path, sys.executable, "-S", "-c", show, env=env) as one:
        assert one.run() == 0
        environ = next(line for line in one.lines() if "PATH" in line)
        assert environ.items() >= {**env, "PORT": str(one.target), "TARGET_PORT": str(one.target)}.items()


def test_the_child_has_its_secret_and_not_the_key_to_it(tmp_path: Path) -> None:
    key = "k" * 32
    (tmp_path / "app.yaml").write_text('app: {env: {SECRET_KEY_BASE: "{secret}"}}\nstorage: {url: "file:./store"}\n')
    show = sys.executable, "-S", "-c", "import json, os; print(json.dumps(dict(os.environ)))"
    for options in ((), ("--config", "app.yaml")):
        with wrapping(tmp_path / str(len(options)), *show, env={"FLYATC_SECRET": key}, options=options) as one:
            (one.folder / "app.yaml").write_bytes((tmp_path / "app.yaml").read_bytes())
            assert one.run() == 0
            environ = next(line for line in one.lines() if "PATH" in line)
            assert "FLYATC_SECRET" not in environ
            assert environ.get("SECRET_KEY_BASE") == (secret_words(key.encode(), "app")["secret"] if options else None)


def test_the_child_has_our_input_our_folder_our_group_and_our_output_as_it_is(tmp_path: Path) -> None:
    """Case 42."""
    with wrapping(tmp_path, "sh", "-c", "cat; pwd; cut -d' ' -f5 /proc/self/stat; printf 'no end \\377' >&2") as one:
        assert one.run(b"what is said to us\n") == 0
        assert one.output.splitlines()[:3] == ["what is said to us", str(tmp_path), str(os.getpgrp())]
        assert b"no end \xff" in one.log_file.read_bytes()


def test_no_line_of_the_childs_comes_amid_one_of_ours(tmp_path: Path) -> None:
    talk = "import os\nwhile True: os.write(1, b'talk' * 50 + b'\\n')"
    with wrapping(tmp_path, sys.executable, "-S", "-c", talk) as one:
        read, write = os.pipe()
        arguments = [sys.executable, "-m", "flyatc", *one.command]
        one.process = subprocess.Popen(
            arguments, stdout=write, stdin=subprocess.PIPE, env={**one.environment(), "START_TIMEOUT": "0"}
        )
        os.close(write)
        with os.fdopen(read, "rb") as output:
            port = next(json.loads(line)["on"] for line in output if b'"listening"' in line).rpartition(":")[2]
            with socket.create_connection(("127.0.0.1", int(port)), 10) as visitor:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
                reported = 0
                for line in output:
                    if line != b"talk" * 50 + b"\n":
                        reported += json.loads(line)["msg"] == "request"
                    if reported == 300:
                        break
            one.process.terminate()
            for _ in output:
                pass
        assert one.wait() == 143


def test_orphans_are_reaped(tmp_path: Path) -> None:
    leave = "(sleep 0.1 & echo orphan $! .); exec sleep 1000"
    with wrapped(tmp_path, "sh", "-c", leave) as one:
        one.until_said(" .")
        orphan = int(one.output.partition("orphan ")[2].split()[0])
        eventually(lambda: proc.find(orphan) is None, what="the reaping")


@pytest.mark.parametrize("program", ["nonexistcmd-of-flyatc", "./nothing", "./plain", "./folder"])
def test_a_command_that_cannot_be_run_is_1_with_a_line(tmp_path: Path, program: str) -> None:
    """Case 41."""
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "folder").mkdir()
    with wrapping(tmp_path, program, "argument") as one:
        assert one.run() == 1
        (line,) = one.reported("", level="error")
        assert line["msg"].startswith(f"'{program}' cannot be started: ")
        assert line["command"] == [program, "argument"]


@pytest.mark.parametrize("word", ["run", "rnu"])
def test_without_a_command_or_with_a_slip_there_is_a_hint(tmp_path: Path, word: str) -> None:
    """Case 41."""
    with wrapping(tmp_path) as one:
        one.launch(word)
        assert one.wait() == {"run": 1, "rnu": 2}[word]
        assert {"run": "flyatc run -- ./bin/rails server", "rnu": "did you mean run?"}[word] in one.output
        assert not one.reported("listening")


@pytest.mark.parametrize(
    "arguments", [("run", "sh", "-c", "exit 9"), ("sh", "-c", "exit 9"), ("--", "sh", "-c", "exit 9")]
)
def test_a_command_needs_no_run_and_no_dashes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with wrapping(tmp_path) as one:
        one.launch(*arguments)
        assert one.wait() == 9


def test_a_busy_port_is_reported_and_the_child_never_starts(tmp_path: Path) -> None:
    """Case 41."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        env = {"HTTP_PORT": str(busy.getsockname()[1])}
        with wrapping(tmp_path, "touch", "ran", env=env) as one:
            assert one.run() == 1
            (line,) = one.reported("cannot listen on", level="error")
            assert "HTTP_PORT" in line["msg"]
            assert not (tmp_path / "ran").exists()


def test_wrong_settings_are_reported_all_at_once_and_nothing_begins(tmp_path: Path) -> None:
    """Cases 43, 45 and 46: what thruster takes for its default, and what flyatc leaves to others, is reported."""
    env = {
        "THRUSTER_CACHE_SIZE": "lots",
        "HTTP_READ_TIMEOUT": "soon",
        "TLS_DOMAIN": "example.com",
        "H2C_ENABLED": "1",
    }
    (tmp_path / "tenants.yaml").write_text("app: {databases: [/etc/passwd]}")
    with wrapping(tmp_path, "touch", "ran", env=env, options=("--config", "tenants.yaml")) as one:
        assert one.run() == 1
        faults = [line["fault"] for line in one.reported("not started")]
        assert [fault.split(": ")[1] for fault in faults] == [
            "HTTP_READ_TIMEOUT",
            "THRUSTER_CACHE_SIZE",
            "TLS_DOMAIN",
            "H2C_ENABLED",
            "app.databases[0]",
        ]
        assert not one.reported("listening")
        assert not (tmp_path / "ran").exists()


def test_settings_without_a_meaning_here_are_reported_once(tmp_path: Path) -> None:
    env = {"ACME_DIRECTORY": "https://acme.example", "THRUSTER_STORAGE_PATH": "certificates"}
    with wrapping(tmp_path, "true", env=env) as one:
        assert one.run() == 0
        (line,) = one.reported("these variables mean nothing here", level="warning")
        assert line["variables"] == ["ACME_DIRECTORY", "THRUSTER_STORAGE_PATH"]


def test_what_the_child_leaves_running_lives_on(tmp_path: Path) -> None:
    with wrapping(tmp_path, "sh", "-c", "sleep 1000 & echo left $! .") as one:
        assert one.run() == 0
        left = int(one.output.partition("left ")[2].split()[0])
        with ending(left):
            assert not gone(left)
