"""Databases named by a pattern: saved from when their app makes them, restored by name, in both modes."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from whole.conftest import StartDaemon
from whole.daemon import Daemon, eventually
from whole.test_overlooked import config, note

PATTERNS = 'databases: ["*.sqlite3", "shards/*.db", "!cache.sqlite3"]'


def patterns(mode: str, app: str = "") -> str:
    return config("{data}/app.sqlite3", mode=mode, app=app).replace("databases: [app.sqlite3]", PATTERNS)


def rows(daemon: Daemon, name: str) -> int:
    with closing(sqlite3.connect(f"file:{daemon.folder}/data/tenants/ann/~/{name}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def lose(daemon: Daemon) -> None:
    shutil.rmtree(daemon.folder / "data/tenants/ann")


@pytest.mark.parametrize("mode", ["snapshot", "litestream"])
def test_what_an_app_makes_is_saved_at_the_stop_and_restored_by_its_name(start: StartDaemon, mode: str) -> None:
    daemon = start(patterns(mode))
    assert daemon.get("/ann/write").status == 200
    for name in ("queue.sqlite3", "cache.sqlite3", "other.db"):
        assert daemon.get(f"/ann/make?name={name}").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    assert note(daemon) == "other.db in {data} is a database, not named in databases, and not saved"
    lose(daemon)
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    assert daemon.get("/ann/write").status == 200
    assert (rows(daemon, "app.sqlite3"), rows(daemon, "queue.sqlite3")) == (2, 2)
    assert not (daemon.folder / "data/tenants/ann/~/cache.sqlite3").exists()
    assert daemon.cli("backup", "ann").returncode == 0
    history = daemon.cli("history", "ann").stdout
    assert "queue.sqlite3" in history
    assert "cache" not in history


@pytest.mark.parametrize("mode", ["snapshot", "litestream"])
def test_a_database_made_during_a_run_is_saved_before_its_end(start: StartDaemon, mode: str) -> None:
    daemon = start(patterns(mode))
    assert daemon.get("/ann/write").status == 200
    daemon.until_reported("a new database is saved from now on", tenant="ann", database="app.sqlite3")
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    daemon.until_reported("a new database is saved from now on", 20, tenant="ann", database="queue.sqlite3")
    assert daemon.cli("backup", "ann").returncode == 0
    daemon.lose_machine()
    shutil.rmtree(daemon.folder / "data")
    again = start(patterns(mode), folder=daemon.folder)
    assert again.get("/ann/write", timeout=120).status == 200
    assert (rows(again, "app.sqlite3"), rows(again, "queue.sqlite3")) == (2, 1)


def test_many_databases_that_are_left_out_do_not_hide_one_that_is_not(start: StartDaemon) -> None:
    daemon = start(patterns("snapshot").replace("!cache.sqlite3", "!cache*.sqlite3"))
    for number in range(25):
        assert daemon.get(f"/ann/make?name=cache{number:02}.sqlite3").status == 200
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    assert "queue.sqlite3" in daemon.cli("history", "ann").stdout
    assert note(daemon) == ""


def test_a_database_whose_name_cannot_be_saved_is_reported_and_breaks_nothing(start: StartDaemon) -> None:
    daemon = start(patterns("snapshot"))
    for name in ("queue.sqlite3", "a%0Ab.sqlite3", "%FF.sqlite3"):
        assert daemon.get(f"/ann/make?name={name}").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    assert note(daemon).startswith(r"'a\nb.sqlite3', '\udcff.sqlite3' in {data} are databases, and not saved because")
    shown = daemon.cli("status")
    assert (shown.returncode, r"'a\nb.sqlite3'" in shown.stdout) == (0, True)


def test_a_pattern_that_matches_nothing_is_fine(start: StartDaemon) -> None:
    daemon = start(patterns("snapshot"))
    assert daemon.get("/ann/up").status == 200
    assert daemon.cli("backup", "ann").returncode == 0
    assert daemon.cli("stop", "ann").returncode == 0
    assert daemon.reported("not all of it is saved") == []


def test_a_restore_takes_the_name_of_a_database_found_by_a_pattern(start: StartDaemon) -> None:
    daemon = start(patterns("snapshot"))
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    assert rows(daemon, "queue.sqlite3") == 2
    restored = daemon.cli("restore", "ann", "queue.sqlite3", "--version", "000001-000000001")
    assert restored.returncode == 0, restored.stderr
    assert rows(daemon, "queue.sqlite3") == 1
    eventually(lambda: daemon.status("ann")["state"] in ("stopped", "ready"), 10, "its rest")


def test_beside_folders_of_files_it_is_saved_as_well(start: StartDaemon) -> None:
    daemon = start(patterns("snapshot", app="  files: [storage]"))
    assert daemon.get("/ann/write").status == 200
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    upload = daemon.folder / "data/tenants/ann/~/storage/photo"
    upload.parent.mkdir(exist_ok=True)
    upload.write_bytes(b"a photo")
    daemon.until_reported("a new database is saved from now on", 20, tenant="ann", database="queue.sqlite3")
    assert daemon.cli("stop", "ann").returncode == 0
    lose(daemon)
    assert daemon.get("/ann/write").status == 200
    assert (rows(daemon, "app.sqlite3"), rows(daemon, "queue.sqlite3"), upload.read_bytes()) == (2, 1, b"a photo")
