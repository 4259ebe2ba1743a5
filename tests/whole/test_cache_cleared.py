"""Tests of what is cached of a tenant is dropped when its data may become others, or its settings have changed."""

import json
import signal
import sys
from pathlib import Path

import pytest

from whole.conftest import StartDaemon
from whole.daemon import Daemon, eventually
from whole.visits import PARROT, get, say

MAKE = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('create table if not exists t (n)')"
COMMAND = json.dumps(
    ["sh", "-c", '"$0" -c "$1" "$DB" && shift && exec "$@"', sys.executable, MAKE, *json.loads(PARROT)]
)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Control: public, max-age=3600\r\n\r\nhello"


def settings(folder: Path, bob: str = "null") -> str:
    return f"""
server: {{listen: "127.0.0.1:0"}}
app:
  command: {COMMAND}
  idle: 1h
  stop_grace: 2s
  env: {{DB: "{{data}}/app.sqlite3"}}
  databases: [app.sqlite3]
storage: {{url: "file:{folder}/store"}}
users: {{ann: null, bob: {bob}}}
"""


@pytest.fixture
def daemon(start: StartDaemon, tmp_path: Path) -> Daemon:
    """A daemon with a cached page of each user."""
    one = start(settings(tmp_path))
    assert [cached(one, user) for user in ("ann", "bob") * 2] == ["miss", "miss", "hit", "hit"]
    return one


def cached(daemon: Daemon, user: str) -> str | None:
    return get(daemon, say(PAGE).replace("/ann/", f"/{user}/")).one("x-cache")


def test_a_clear_of_an_unknown_tenant_is_refused(daemon: Daemon) -> None:
    unknown = daemon.cli("cache", "clear", "nonesuch")
    assert (unknown.returncode, "there is no tenant 'nonesuch'" in unknown.stderr) == (1, True)
    assert cached(daemon, "ann") == "hit"
    assert daemon.cli("cache", "clear", "ann").returncode == 0
    assert [cached(daemon, user) for user in ("ann", "bob")] == ["miss", "hit"]


def test_a_restore_clears_the_tenant(daemon: Daemon) -> None:
    for command in (("backup", "ann"), ("restore", "ann")):
        run = daemon.cli(*command)
        assert run.returncode == 0, run.stderr
    assert [cached(daemon, user) for user in ("ann", "bob", "ann")] == ["miss", "hit", "hit"]


def test_a_restore_that_fails_clears_the_tenant_as_well(daemon: Daemon) -> None:
    daemon.cli("backup", "ann")
    assert daemon.cli("restore", "ann", "--version", "20200101T000000.000000Z-0000").returncode != 0
    assert [cached(daemon, user) for user in ("ann", "bob")] == ["miss", "hit"]


def test_a_release_clears_the_user(daemon: Daemon) -> None:
    run = daemon.cli("release", "ann")
    assert run.returncode == 0, run.stderr
    assert [cached(daemon, user) for user in ("ann", "bob", "ann")] == ["miss", "hit", "hit"]


def test_a_release_of_an_idle_user_clears_as_well(daemon: Daemon) -> None:
    assert daemon.cli("stop", "ann").returncode == 0
    assert cached(daemon, "ann") == "hit"
    run = daemon.cli("release", "ann", "--to", "3d8dd15c1ed778")
    assert run.returncode == 0, run.stderr
    refused = get(daemon, say(PAGE))
    assert (refused.status, refused.one("x-cache")) == (503, None)
    assert cached(daemon, "bob") == "hit"


def test_a_reload_clears_tenants_whose_settings_have_changed(daemon: Daemon, tmp_path: Path) -> None:
    daemon.write(settings(tmp_path, "{delivery: {cache: {mode: rfc}}}"))
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.reported("reloaded"), what="reloaded")
    assert [cached(daemon, user) for user in ("ann", "bob", "bob")] == ["hit", "miss", "hit"]
