"""Databases of an app that are not saved are reported, and no two tenants share one."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from whole.conftest import StartDaemon
from whole.daemon import Daemon, eventually
from whole.test_idle_work import APPS


def config(database: str, *, app: str = "", mode: str = "snapshot", env: str = "") -> str:
    return f"""
server: {{listen: 127.0.0.1:0}}
app:
  command: {json.dumps([sys.executable, "-S", str(APPS / "elsewhere_app.py")])}
  env: {{DATABASE: "{database}", DATA: "{{data}}"{env}}}
  databases: [app.sqlite3]
  isolation: off  # which would not let it write elsewhere
  idle: 1h
{app}
storage: {{mode: {mode}}}
users: {{ann: , bob: }}
"""


def note(daemon: Daemon, tenant: str = "ann") -> str:
    return "; ".join(daemon.status(tenant)["overlooked"])


def test_an_app_that_writes_elsewhere_is_reported_in_log_status_and_backup(start: StartDaemon, tmp_path: Path) -> None:
    elsewhere = tmp_path / "development.sqlite3"
    daemon = start(config(str(elsewhere)))
    assert daemon.get("/ann/write").status == 200
    said = daemon.until_reported("not all of it is saved", tenant="ann")["reason"]
    seen = (f"the app has opened {elsewhere}, which is not saved", f"{elsewhere} was written since the start")
    assert said.startswith(tuple(f"app.sqlite3 does not exist; {one}" for one in seen))
    assert said in daemon.cli("status").stdout
    backup = daemon.cli("backup", "ann")
    assert (backup.returncode, said in backup.stderr) == (1, True)
    assert daemon.cli("stop", "ann").returncode == 0
    assert said in note(daemon), "also while it is stopped"


def test_the_second_tenant_with_the_same_database_is_refused_and_the_first_goes_on(
    start: StartDaemon, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "development.sqlite3"
    daemon = start(config(str(elsewhere)))
    assert daemon.get("/ann/write").status == 200
    daemon.until_reported("not all of it is saved", tenant="ann")
    daemon.get("/bob/write")
    failed = daemon.until_reported("the app is ended", tenant="bob")
    assert failed["reason"].startswith(f"bob and ann have the same database open: {elsewhere}.")
    eventually(lambda: daemon.status("bob")["state"] == "failed", 10, "its end")
    assert daemon.get("/bob/write").status == 502
    assert daemon.get("/ann/write").status == 200
    assert daemon.status("ann")["state"] == "ready"


def test_an_app_that_opens_its_database_for_each_request_is_reported_by_what_it_left_in_its_directory(
    start: StartDaemon, tmp_path: Path
) -> None:
    directory = tmp_path / "site"
    directory.mkdir()
    daemon = start(config("db.sqlite3", app=f"  directory: {directory}"))
    assert daemon.get("/ann/once").status == 200
    said = daemon.until_reported("not all of it is saved", 20, tenant="ann")["reason"]
    left = f"{directory}/db.sqlite3 was written since the start"
    seen = f"the app has opened {directory}/db.sqlite3"  # if the look came while the request was served
    assert said.startswith((f"app.sqlite3 does not exist; {left}", f"app.sqlite3 does not exist; {seen}"))


def test_and_by_what_its_environment_names_which_two_tenants_cannot_share(start: StartDaemon, tmp_path: Path) -> None:
    elsewhere = tmp_path / "development.sqlite3"
    daemon = start(config(str(elsewhere)))
    assert daemon.get("/ann/once").status == 200
    said = daemon.until_reported("not all of it is saved", 20, tenant="ann")["reason"]
    left, seen = f"{elsewhere} was written since the start", f"the app has opened {elsewhere}"  # as above
    assert said.startswith((f"app.sqlite3 does not exist; {left}", f"app.sqlite3 does not exist; {seen}"))
    daemon.get("/bob/once")
    failed = daemon.until_reported("the app is ended", 20, tenant="bob")
    assert failed["reason"].startswith(f"bob and ann have the same database open: {elsewhere}.")


def test_a_reference_database_that_is_only_read_may_be_shared(start: StartDaemon, tmp_path: Path) -> None:
    reference = tmp_path / "reference.sqlite3"
    with closing(sqlite3.connect(reference)) as db:
        db.execute("CREATE TABLE t (a)")
        db.commit()
    daemon = start(config("{data}/app.sqlite3", env=f', REFERENCE: "{reference}"'))
    for tenant in ("ann", "bob"):
        assert daemon.get(f"/{tenant}/write").status == 200
    for tenant in ("ann", "bob"):  # a look after both have opened it
        daemon.cli("restart", tenant)
        assert daemon.get(f"/{tenant}/read").status == 200
    assert daemon.cli("backup", "ann").returncode == 0
    assert daemon.reported("the app is ended") == daemon.reported("not all of it is saved") == []


def test_databases_that_no_one_named_are_reported_at_the_stop_at_the_latest(start: StartDaemon) -> None:
    daemon = start(config("{data}/app.sqlite3"))
    assert daemon.get("/ann/write").status == 200
    assert daemon.get("/ann/make?name=queue.sqlite3").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    said = daemon.until_reported("not all of it is saved", tenant="ann")["reason"]
    assert said == "queue.sqlite3 in {data} is a database, not named in databases, and not saved"
    assert said in daemon.cli("status").stdout
    assert daemon.cli("backup", "ann").returncode == 1


def test_an_app_that_uses_what_is_saved_is_not_reported(start: StartDaemon) -> None:
    daemon = start(config("{data}/app.sqlite3"))
    assert daemon.get("/ann/write").status == 200
    assert daemon.cli("backup", "ann").returncode == 0
    assert daemon.cli("stop", "ann").returncode == 0
    assert daemon.reported("not all of it is saved") == []


def test_check_warns_if_the_app_is_not_reported_where_its_databases_are(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(config("/x/y.sqlite3").replace(', DATA: "{data}"', ""))
    checked = daemon.cli("check")
    assert checked.returncode == 0
    assert "databases are named, but {data} is nowhere in command and env" in checked.stdout
    assert "(ann, bob)" in checked.stdout
    daemon.write(config("{data}/app.sqlite3"))
    assert "warning" not in daemon.cli("check").stdout
