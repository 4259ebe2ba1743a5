"""flyatc exec --all: a command for many tenants, with rollback, journal and rehearsal."""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fork_server
from flyatc.control.client import Client
from whole.daemon import SLOWNESS, Daemon, clean_environment, config, eventually

FIVE = ("ann", "bob", "cid", "dan", "eve")
PYTHON = (sys.executable, "-S", "-c")

# Adds a row to "migrated". Then it waits while there is a file "holds", waits until it is killed for the tenants in the
# file "waits", and ends with 9 for those in "fails".
MIGRATE = """
import os, pathlib, sqlite3, sys, time
folder, me = pathlib.Path(sys.argv[1]), os.environ["ME"]
with open(folder / "calls", "a") as file: file.write(me + "\\n")
database = sqlite3.connect(os.environ["DATABASE_PATH"])
database.execute("create table if not exists migrated (n)")
database.execute("insert into migrated values (1)")
database.commit()
print("migrates", me, flush=True)
while (folder / "holds").exists(): time.sleep(0.01)
if (folder / "waits").exists() and me in (folder / "waits").read_text():
    time.sleep(600)
if (folder / "fails").exists() and me in (folder / "fails").read_text():
    print("it does not work", file=sys.stderr)
    sys.exit(9)
"""


@pytest.fixture(params=["snapshot", "litestream"])
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Five tenants with a row each; the app of ann runs."""
    text = config(users=f"users: {{{', '.join(f'{user}: {{}}' for user in FIVE)}}}")
    text = text.replace("storage: {", f"storage: {{mode: {request.param}, ").replace("env: {", 'env: {ME: "{user}", ')
    one = Daemon(tmp_path / "daemon", text).start()
    for user in FIVE:
        assert one.post(f"/{user}/add").json["count"] == 1
        if user != "ann":
            Client(str(one.data)).post("/stop", dict[str, Any], address=user)
    yield one
    one.clean_up()
    print(one.log_file.read_text(errors="replace")[-40_000:])


def arguments(daemon: Daemon, *options: str) -> list[str]:
    words = [] if "--resume" in options else ["--", *PYTHON, MIGRATE, str(daemon.folder)]
    return daemon.configured(["exec", "--all", "--json", *options, *words])


def migrate(daemon: Daemon, *options: str) -> tuple[int, dict[str, Any]]:
    run = fork_server.run(arguments(daemon, *options), daemon.folder, clean_environment(), 60 * SLOWNESS)
    assert run.stdout, run.stderr
    return run.returncode, json.loads(run.stdout)


def migrated(daemon: Daemon) -> list[int]:
    """Rows of each tenant, as a request finds them; 0: there is no table."""
    found: list[int] = []
    for user in FIVE:
        assert daemon.get(f"/{user}/count").json["count"] == 1, "nothing else is lost"
        with contextlib.closing(sqlite3.connect(daemon.data / "tenants" / user / "~" / "app.sqlite3")) as database:
            there = database.execute("select 1 from sqlite_master where name = 'migrated'").fetchone()
            found += database.execute("select count(*) from migrated").fetchone() if there else [0]
    return found


def calls(daemon: Daemon) -> list[str]:
    path = daemon.folder / "calls"
    return path.read_text().split() if path.exists() else []


def test_a_failure_is_undone_and_stops_the_run_which_goes_on_where_it_was(daemon: Daemon) -> None:
    (daemon.folder / "fails").write_text("cid")
    pid = daemon.status("ann")["pid"]
    code, found = migrate(daemon, "--parallel", "1")
    assert (code, found["done"], found["left"]) == (1, 2, ["cid", "dan", "eve"])
    [failed] = found["failed"]
    assert (failed["tenant"], failed["code"]) == ("cid", 9)
    assert "undone" in failed["error"]
    assert Path(failed["output"]).read_text() == "migrates cid\nit does not work\n"
    after = eventually(lambda: (now := daemon.status("ann"))["state"] == "ready" and now, what="ann again")
    assert after["pid"] != pid, "the app was stopped, and started again"
    assert migrated(daemon) == [1, 1, 0, 0, 0]

    (daemon.folder / "fails").unlink()
    code, found = migrate(daemon, "--resume")
    assert (code, found["done"], found["left"]) == (0, 5, [])
    assert sorted(calls(daemon)) == ["ann", "bob", "cid", "cid", "dan", "eve"], "none twice that was done"
    eventually(lambda: daemon.status("eve")["state"] == "ready", what="eve again")  # cut short, it would be dirty
    assert daemon.stop() == 0
    shutil.rmtree(daemon.data)
    daemon.start()
    assert migrated(daemon) == [1, 1, 1, 1, 1], "the store has it"
    assert daemon.stop() == 0


def test_a_rehearsal_touches_nothing(daemon: Daemon) -> None:
    (daemon.folder / "fails").write_text("bob dan")
    before, pid = content(daemon.folder / "store"), daemon.status("ann")["pid"]
    code, found = migrate(daemon, "--rehearse")
    assert (code, found["done"]) == (1, 3)
    assert sorted(one["tenant"] for one in found["failed"]) == ["bob", "dan"]
    assert content(daemon.folder / "store") == before
    assert daemon.status("ann")["pid"] == pid
    assert not list((daemon.data / "rehearsals").iterdir())
    assert migrated(daemon) == [0, 0, 0, 0, 0]
    assert daemon.stop() == 0


def content(folder: Path) -> dict[str, bytes]:
    """Of a store, without the heartbeat of the machine."""
    files = (one for one in folder.rglob("*") if one.is_file() and "machines" not in one.parts)
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


@pytest.mark.parametrize("daemon", ["snapshot"], indirect=True)
@pytest.mark.parametrize("killed", ["command line", "daemon", "daemon by SIGTERM"])
def test_what_was_cut_off_is_undone_and_done_once_by_the_next_try(daemon: Daemon, killed: str) -> None:
    (daemon.folder / "waits").write_text("cid")
    process = subprocess.Popen(
        [sys.executable, "-m", "flyatc", *arguments(daemon, "--parallel", "1")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
    )
    eventually(lambda: calls(daemon) == ["ann", "bob", "cid"], 30, "the third tenant")
    if killed == "command line":
        process.kill()
    elif killed == "daemon":
        daemon.kill()
    else:
        assert daemon.stop() == 0
    process.communicate(timeout=30 * SLOWNESS)
    assert process.returncode != 0
    (daemon.folder / "waits").unlink()
    if killed != "command line":
        daemon.start()
    assert migrated(daemon) == [1, 1, 0, 0, 0]
    code, found = migrate(daemon, "--resume")
    assert (code, found["done"], found["left"]) == (0, 5, [])
    assert migrated(daemon) == [1, 1, 1, 1, 1]
    assert sorted(calls(daemon)) == ["ann", "bob", "cid", "cid", "dan", "eve"]
    assert daemon.stop() == 0


@pytest.mark.parametrize("daemon", ["snapshot"], indirect=True)
def test_requests_wait_for_the_command_and_ctrl_c_lets_it_finish(daemon: Daemon) -> None:
    (daemon.folder / "holds").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "flyatc", *arguments(daemon, "--parallel", "1")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    eventually(lambda: calls(daemon) == ["ann"], 30, "the first tenant")
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(daemon.get, "/ann/count")
        eventually(lambda: daemon.status("ann")["requests"] == 1, what="a request that waits")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Ctrl-C again" in process.stderr.readline()
        assert not response.done()
        (daemon.folder / "holds").unlink()
        assert response.result().json["count"] == 1
    output, _ = process.communicate(timeout=30 * SLOWNESS)
    found = json.loads(output)
    assert (process.returncode, found["done"], found["why"]) == (1, 1, "it was interrupted")
    assert found["left"] == ["bob", "cid", "dan", "eve"]
    assert migrated(daemon) == [1, 0, 0, 0, 0]
    assert daemon.stop() == 0


@pytest.mark.parametrize("daemon", ["snapshot"], indirect=True)
def test_keep_going_lists_all_failures_and_a_done_tenant_is_not_done_twice_after_a_lost_journal(daemon: Daemon) -> None:
    (daemon.folder / "fails").write_text("ann cid")
    code, found = migrate(daemon, "--keep-going", "--no-rollback")
    assert (code, found["done"], found["left"]) == (1, 3, ["ann", "cid"])
    assert migrated(daemon) == [1, 1, 1, 1, 1], "kept, as it was asked for"
    journal = Path(found["folder"]) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().split(b"\n")[0] + b"\n")  # as if the command line had been killed earlier
    (daemon.folder / "fails").unlink()
    code, found = migrate(daemon, "--resume")
    assert (code, found["done"]) == (0, 5)
    assert migrated(daemon) == [2, 1, 2, 1, 1], "the daemon knows which were done"
    assert daemon.stop() == 0
