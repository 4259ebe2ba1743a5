"""The end of a lease does not depend on the daemon's event loop: the apps are killed though the daemon hangs."""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flyatc.ownership.rules import KILL, Terms
from slowness import SLOWNESS
from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually, restless

TTL = 10.0
WRITER = """
import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS background(t REAL)")
while True:
    db.execute("INSERT INTO background VALUES(?)", (time.time(),))
    time.sleep(0.02)
"""
# In the daemon by PYTHONPATH: when the file appears, a call into C keeps the interpreter's lock, so nothing else runs.
STUCK = """
import ctypes, os, threading, time
def wait():
    while not os.path.exists({file!r}):
        time.sleep(0.02)
    os.rename({file!r}, {file!r} + ".seen")
    ctypes.PyDLL(None).sleep({seconds})
threading.Thread(target=wait, daemon=True).start()
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    writer = tmp_path / "writer.py"
    writer.write_text(WRITER)
    background = f"setsid {sys.executable} -S {writer} $DATABASE_PATH & exec {_shell(restless())}"
    url = f"url: 'file:{tmp_path / 'shared'}', session_ttl: {TTL:g}s"
    return (
        config(idle="600s")
        .replace("{interval: 0}", f"{{interval: 0, {url}}}")
        .replace(f"command: {restless()}", f"command: [sh, -c, {background!r}]")
    )


def _shell(command: str) -> str:
    return " ".join(json.loads(command))


def last_row(daemon: Daemon) -> float:
    with sqlite3.connect(f"file:{evidence.database(daemon, 'ann/one')}?mode=ro", uri=True, timeout=10) as db:
        (moment,) = db.execute("SELECT max(t) FROM background").fetchone()
    db.close()
    return float(moment)


def writes(daemon: Daemon) -> bool:
    """The writer is another process than the app which is ready: it may not have made its table yet."""
    with contextlib.suppress(sqlite3.OperationalError, TypeError):
        return last_row(daemon) > 0
    return False


def taken(daemon: Daemon) -> bool:
    return daemon.get("/ann/one/count").status == 200


def stop(daemon: Daemon, folder: Path) -> Callable[[], None]:
    os.kill(daemon.pid, signal.SIGSTOP)
    return lambda: os.kill(daemon.pid, signal.SIGCONT)


def stick(daemon: Daemon, folder: Path) -> Callable[[], None]:
    (folder / "stick").write_text("")
    eventually(lambda: (folder / "stick.seen").exists(), what="the daemon is stuck")
    return lambda: None


@pytest.mark.parametrize("cgroups", ["on", "off"])
@pytest.mark.parametrize("stand_still", [stop, stick])
def test_a_daemon_that_stands_still_has_no_writers_when_another_machine_takes_its_users(
    start: StartDaemon,
    text: str,
    tmp_path: Path,
    cgroups: str,
    stand_still: Callable[[Daemon, Path], Callable[[], None]],
) -> None:
    (tmp_path / "stuck").mkdir()
    code = STUCK.format(file=str(tmp_path / "stick"), seconds=round(3 * TTL))
    (tmp_path / "stuck" / "sitecustomize.py").write_text(code)
    home = start(text, env={"PYTHONPATH": str(tmp_path / "stuck"), "FLYATC_CGROUPS": cgroups})
    away = start(text)
    assert home.post("/ann/one/add").json["count"] == 1
    eventually(lambda: writes(home), what="the background writes")
    go_on = stand_still(home, tmp_path)
    still = time.time()
    eventually(lambda: taken(away), within=4 * TTL, what="another owner")
    moment = time.time()
    last = last_row(home)
    assert last < still + Terms.of(TTL).valid + KILL * SLOWNESS
    assert last < moment
    assert moment - still > Terms.of(TTL).valid
    assert last_row(home) == last
    go_on()
    answer = home.get("/ann/one/count", timeout=60)
    assert answer.status == 503, "the user is another machine's"
    home.until_reported("the lease of this machine has ended: the supervisor has killed the apps", runs=1)
    home.until_reported("session lost", within=30)
    assert not home.reported("saved", tenant="ann/one"), "what was not saved before must not be pushed after"
    assert away.get("/ann/one/count").status == 200
