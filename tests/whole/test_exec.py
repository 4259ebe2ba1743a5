"""flyatc exec: one command for one tenant, beside its app or without it."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fork_server
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, Daemon, clean_environment, config, eventually
from whole.terminals import Terminal

PYTHON = (sys.executable, "-S", "-c")
COUNT = """
import os, sqlite3
database = sqlite3.connect(os.environ["DATABASE_PATH"])
database.execute("create table if not exists {0} (n)")
database.execute("insert into {0} values (1)")
database.commit()
print(database.execute("select count(*) from {0}").fetchone()[0])
"""
MANY = "users: {ann: {tenants: [one, two]}, bob: {}, cid: {}, dan: {}, eve: {}, fay: {}}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests here; each has a user of its own."""
    one = Daemon(tmp_path_factory.mktemp("exec"), config(users=MANY)).start()
    yield one
    print(one.log_file.read_text(errors="replace")[-20_000:])
    assert one.stop() == 0


def execute(daemon: Daemon, tenant: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = daemon.configured(["exec", tenant, "--", *words])
    env = clean_environment() | {"PORT": "1", "AWS_SECRET_ACCESS_KEY": "of the operator"}
    return fork_server.run(command, Path("/"), env, 30 * SLOWNESS, stdin=stdin)


def add(daemon: Daemon, tenant: str, table: str = "here") -> int:
    run = execute(daemon, tenant, *PYTHON, COUNT.format(table))
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_a_command_has_the_environment_the_folder_and_the_streams_of_its_caller(daemon: Daemon) -> None:
    tell = "import os, sys; print(os.getcwd(), os.environ['DATABASE_PATH'], os.environ.get('PORT'), sys.argv[1]); "
    tell += "print(os.environ['FLYATC_TENANT'], os.environ['FLYATC_USER']); "
    tell += "print('AWS_SECRET_ACCESS_KEY' in os.environ, file=sys.stderr); print(sys.stdin.read()[::-1]); sys.exit(7)"
    run = execute(daemon, "ann/two", *PYTHON, tell, "{port} ${HOME} {{x}", stdin="olleh")
    database = daemon.data / "tenants" / "ann" / "two" / "app.sqlite3"
    assert run.returncode == 7
    first = f"{daemon.folder} {database} None {{port}} ${{HOME}} {{{{x}}"
    assert run.stdout.splitlines() == [first, "ann/two ann", "hello"]
    assert run.stderr == "False\n"


def test_a_stopped_tenant_is_restored_before_a_command_and_saved_after_it(daemon: Daemon) -> None:
    assert add(daemon, "ann/one") == 1
    daemon.until_reported("tenant stopped", tenant="ann/one")
    states = [line["state"] for line in daemon.reported("tenant ", tenant="ann/one") if "state" in line]
    assert states == ["owning", "restoring", "executing", "saving", "stopped"], "no app was started"
    shutil.rmtree(daemon.data / "tenants" / "ann" / "one")
    assert add(daemon, "ann/one") == 2, "the store had it"


def test_a_command_runs_beside_the_app_which_runs_on(daemon: Daemon) -> None:
    daemon.post("/cid/add")
    before = daemon.status("cid")
    assert add(daemon, "cid") == 1
    after = daemon.status("cid")
    assert (after["pid"], after["starts"], after["state"]) == (before["pid"], before["starts"], "ready")
    assert after["saved_at"] is not None, "what it has changed is saved"
    assert daemon.get("/cid/count").json["count"] == 1


def test_a_request_starts_the_app_beside_a_command_that_came_first(daemon: Daemon, tmp_path: Path) -> None:
    wait = f"import time, pathlib\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)"
    with started(daemon, "dan", *PYTHON, wait) as process:
        eventually(lambda: daemon.status("dan")["state"] == "executing", what="the command")
        assert daemon.get("/dan/count").status == 200
        assert (daemon.status("dan")["state"], daemon.status("dan")["commands"]) == ("ready", 1)
        (tmp_path / "go").touch()
        assert process.wait(20 * SLOWNESS) == 0
    assert daemon.status("dan")["commands"] == 0
    assert daemon.status("dan")["state"] == "ready"


class started:
    """The command line in the background, killed at the end."""

    def __init__(self, daemon: Daemon, tenant: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flyatc", *daemon.configured(["exec", tenant, "--", *words])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


def pid_of(file: Path) -> int:
    return int(eventually(lambda: file.exists() and file.read_text(), what="the command"))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# It ignores SIGHUP and SIGTERM, and leaves a child in a session of its own.
STUBBORN = """
import os, pathlib, signal, sys, time
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if not os.fork():
    os.setsid()
    pathlib.Path(sys.argv[1], "child").write_text(str(os.getpid()))
    time.sleep(600)
pathlib.Path(sys.argv[1], "parent").write_text(str(os.getpid()))
time.sleep(600)
"""


def test_all_processes_of_a_command_end_with_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    with started(daemon, "eve", *PYTHON, STUBBORN, str(tmp_path)) as process:
        pids = [pid_of(tmp_path / name) for name in ("parent", "child")]
        process.kill()
    eventually(lambda: all(map(gone, pids)), what="the end of the command")
    eventually(lambda: daemon.status("eve")["state"] == "stopped", what="the end of the run")


def test_signals_reach_a_command_and_its_end_by_one_is_reported_as_by_a_shell(daemon: Daemon, tmp_path: Path) -> None:
    sleep = f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'pid')!r}).write_text('1'); time.sleep(600)"
    with started(daemon, "fay", *PYTHON, sleep) as process:
        pid_of(tmp_path / "pid")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20 * SLOWNESS) == 128 + signal.SIGTERM


def test_a_terminal_controls_a_command_as_it_would_without_flyatc(daemon: Daemon) -> None:
    tell = "import os, sys; os.open('/dev/tty', os.O_RDWR); print(os.get_terminal_size(), os.environ['TERM'])\n"
    tell += "try: print('got', input('say: '))\nexcept KeyboardInterrupt: print('interrupted'); sys.exit(5)\n"
    tell += "input('again: ')"
    terminal = Terminal(daemon, ("exec", "bob", "--", *PYTHON, tell), {"TERM": "vt100"})
    terminal.until_shown("say: ")
    terminal.type("hello\n")
    terminal.until_shown("again: ")
    terminal.type("\x04")
    code, shown = terminal.end()
    assert "got hello" in shown
    assert "vt100" in shown
    assert "EOFError" in shown
    assert code == 1
    terminal = Terminal(daemon, ("exec", "bob", "--", *PYTHON, tell))
    terminal.until_shown("say: ")
    terminal.type("\x03")
    code, shown = terminal.end()
    assert "interrupted" in shown
    assert code == 5


def test_what_cannot_be_run_is_explained(daemon: Daemon) -> None:
    def failed(*words: str) -> str:
        run = daemon.cli("exec", *words)
        assert run.returncode in (1, 2), run
        return run.stderr

    assert "did you mean ann/one" in failed("ann/on", "--", "true")
    assert "there is no such program" in failed("bob", "--", "nosuchprogram")
    assert "flyatc exec bellevue" in failed("bob")
    assert "Write -- before the command" in failed("bob", "ls", "-l")
    eventually(lambda: daemon.status("bob")["state"] == "stopped", what="the end of its run")


def test_a_stop_of_the_tenant_ends_its_commands_before_it_is_saved(daemon: Daemon, tmp_path: Path) -> None:
    with started(daemon, "ann/two", *PYTHON, STUBBORN, str(tmp_path)) as process:
        pids = [pid_of(tmp_path / name) for name in ("parent", "child")]
        assert daemon.cli("stop", "ann/two").returncode == 0
        assert all(map(gone, pids)), "before it counts as stopped"
        output, _ = process.communicate(timeout=20 * SLOWNESS)
    assert process.returncode == 128 + signal.SIGKILL
    assert b"was ended with the run of the tenant" in output


def test_a_daemon_that_stops_ends_commands_and_saves(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(config())
    insert = COUNT.format("here") + f"open({str(tmp_path / 'pid')!r}, 'w').write('1'); import time; time.sleep(600)"
    with started(daemon, "bob", *PYTHON, insert) as process:
        pid_of(tmp_path / "pid")
        assert daemon.stop() == 0, "all is saved"
        output, _ = process.communicate(timeout=20 * SLOWNESS)
    assert process.returncode == 1
    assert b"the daemon is going away" in output
    assert "no daemon is running" in execute(daemon, "bob", "true").stderr
    shutil.rmtree(daemon.data)
    daemon.start()
    assert add(daemon, "bob") == 2
