"""The data folder, or a part of it, is deleted or replaced: below a running daemon, or after it was killed."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually

DELETED = "the data folder was deleted: its apps are killed, and what they had not saved is lost"
AGAIN = "the data folder was made again: tenants go on from the store"


@pytest.fixture
def daemon(start: StartDaemon, tmp_path: Path) -> Daemon:
    url = f"url: 'file:{tmp_path / 'shared'}'"
    return start(config(idle="60s").replace("{interval: 0}", f"{{interval: 0, {url}}}"))


def added(daemon: Daemon, user: str = "ann/one") -> int:
    answer = daemon.post(f"/{user}/add")
    assert answer.status == 200, answer.body
    return int(answer.json["count"])


def counted(daemon: Daemon) -> int:
    return int(eventually(lambda: daemon.get("/ann/one/count"), what="an answer").json["count"])


def saved_and_unsaved(daemon: Daemon) -> int:
    """Two rows are saved, a third is not. The app's pid."""
    assert [added(daemon), added(daemon)] == [1, 2]
    assert daemon.cli("backup", "ann/one").returncode == 0
    assert added(daemon) == 3
    return int(daemon.status("ann/one")["pid"])


def owner(tmp_path: Path, user: str = "ann") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((tmp_path / "shared" / "users" / user / "owner.json").read_bytes())
    return record


def data(daemon: Daemon) -> Path:
    return daemon.folder / "data"


def delete(folder: Path) -> None:
    """The daemon may write into it meanwhile, which ``rmtree`` reports as a folder that is not empty."""
    with contextlib.suppress(FileNotFoundError):
        while folder.exists():
            with contextlib.suppress(OSError):
                return shutil.rmtree(folder)
    return None


def test_below_a_running_daemon_apps_are_killed_and_go_on_from_the_store(daemon: Daemon) -> None:
    pid = saved_and_unsaved(daemon)
    delete(data(daemon))
    daemon.until_reported(AGAIN)
    assert daemon.reported(DELETED)
    assert not evidence.alive(pid)
    assert counted(daemon) == 2, "what the store has, and nothing is refused"
    assert added(daemon) == 3
    released = daemon.cli("release", "ann")
    assert released.returncode == 0, released.stderr
    assert daemon.stop() == 0


def test_a_command_that_comes_before_the_daemon_has_noticed_waits_for_it(daemon: Daemon) -> None:
    saved_and_unsaved(daemon)
    delete(data(daemon))
    released = daemon.cli("release", "ann")
    assert released.returncode == 0 or "is free already" in released.stderr, released.stdout + released.stderr
    assert counted(daemon) == 2


def test_what_was_not_saved_is_never_called_saved_at_a_stop_that_follows_at_once(daemon: Daemon) -> None:
    saved_and_unsaved(daemon)
    delete(data(daemon))
    assert daemon.stop() == 1
    assert not daemon.reported("stopped: all is saved")
    daemon.start()
    assert counted(daemon) == 2


def test_a_database_that_an_app_makes_again_in_a_deleted_folder_does_not_replace_what_the_store_has(
    daemon: Daemon,
) -> None:
    saved_and_unsaved(daemon)
    daemon.signal(signal.SIGSTOP)
    try:
        delete(data(daemon) / "tenants" / "ann")
        folder = data(daemon) / "tenants" / "ann" / "one"
        folder.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(folder / "app.sqlite3")) as made:
            made.execute("CREATE TABLE another (x)")
            made.commit()
    finally:
        daemon.signal(signal.SIGCONT)
    assert daemon.cli("stop", "ann/one").returncode != 0
    assert counted(daemon) == 2


def test_of_a_tenant_whose_own_folder_is_deleted_the_app_is_killed_and_others_are_left_alone(daemon: Daemon) -> None:
    pid = saved_and_unsaved(daemon)
    assert added(daemon, "bob") == 1
    other = daemon.status("bob")["pid"]
    delete(data(daemon) / "tenants" / "ann")
    daemon.until_reported("the folder of a running app was deleted: it is killed")
    eventually(lambda: not evidence.alive(pid), what="the app's end")
    assert counted(daemon) == 2
    assert daemon.status("bob")["pid"] == other
    assert daemon.stop() == 0


def test_a_lock_that_alone_is_deleted_is_made_again_and_costs_nothing(daemon: Daemon) -> None:
    pid = saved_and_unsaved(daemon)
    (data(daemon) / ".flyatc" / "lock").unlink()
    daemon.until_reported("the lock of the data folder was deleted: made again")
    assert (counted(daemon), daemon.status("ann/one")["pid"]) == (3, pid)
    assert daemon.stop() == 0


def test_after_a_kill_and_a_deletion_the_next_daemon_ends_the_apps_and_serves_at_once(daemon: Daemon) -> None:
    saved_and_unsaved(daemon)
    left = evidence.processes_of(daemon.folder)
    daemon.kill_with_supervisor()
    delete(data(daemon))
    daemon.start()
    assert [pid for pid in left if evidence.alive(pid)] == []
    answer = daemon.get("/ann/one/count")
    assert (answer.status, answer.json["count"]) == (200, 2), "without waiting for the session of the dead one"
    assert daemon.stop() == 0


def test_of_two_daemons_on_one_path_the_one_whose_folder_was_deleted_ends(
    daemon: Daemon, start: StartDaemon, tmp_path: Path
) -> None:
    pid = saved_and_unsaved(daemon)
    daemon.signal(signal.SIGSTOP)
    second = None
    try:
        delete(data(daemon))
        second = start(f"{daemon.config}\n", env={"FLYATC_DATA": str(data(daemon))})
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert daemon.wait() == 1
    assert daemon.reported("the data folder was deleted, and cannot be restored")
    assert not evidence.alive(pid)
    assert owner(tmp_path)["state"] != "released" or second.get("/ann/one/count").status == 200


def test_in_litestream_mode_apps_go_on_from_the_stream(start: StartDaemon) -> None:
    daemon = start(config(idle="60s").replace("{interval: 0}", "{interval: 0, mode: litestream}"))
    assert [added(daemon), added(daemon)] == [1, 2]
    eventually(lambda: not daemon.status("ann/one")["unsaved"], what="the stream")
    pid = int(daemon.status("ann/one")["pid"])
    delete(data(daemon))
    daemon.until_reported(AGAIN)
    assert not evidence.alive(pid)
    assert counted(daemon) == 2
    assert added(daemon) == 3
    assert daemon.stop() == 0


# --- an older copy in its place ---


def replace(folder: Path, older: Path) -> None:
    """As an operator who moves to another disk, or a volume that is mounted late; what was there stays elsewhere."""
    folder.rename(older.with_name("aside"))
    older.rename(folder)


def copied(folder: Path, tmp_path: Path) -> Path:
    older = tmp_path / "older"
    shutil.copytree(folder, older, ignore=shutil.ignore_patterns("*.sock"), symlinks=True)
    return older


@pytest.fixture
def streamed_or_not(start: StartDaemon, mode: str) -> Daemon:
    return start(config(idle="60s").replace("{interval: 0}", f"{{interval: 0, mode: {mode}}}"))


def saved(daemon: Daemon) -> None:
    assert daemon.cli("backup", "ann/one").returncode == 0


def outdated_copy(daemon: Daemon, part: str, tmp_path: Path) -> Path:
    """Return a copy of a part of the data folder, with one row; another one is saved since."""
    assert added(daemon) == 1
    saved(daemon)
    older = copied(data(daemon) / part, tmp_path)
    assert added(daemon) == 2
    saved(daemon)
    return older


@pytest.mark.parametrize(("mode", "part"), [("snapshot", ""), ("litestream", ""), ("snapshot", "tenants/ann/one")])
def test_an_older_copy_put_in_place_below_a_running_daemon_never_replaces_what_was_saved(
    streamed_or_not: Daemon, tmp_path: Path, part: str
) -> None:
    daemon = streamed_or_not
    older = outdated_copy(daemon, part, tmp_path)
    pid = daemon.status("ann/one")["pid"]
    replace(data(daemon) / part, older)
    daemon.until_reported("the folder of a running app was deleted: it is killed")
    eventually(lambda: not evidence.alive(pid), what="the app's end")
    assert counted(daemon) == 2
    assert added(daemon) == 3
    assert daemon.stop() == 0


@pytest.mark.parametrize("mode", ["snapshot"])
def test_an_older_copy_is_not_saved_by_a_stop_before_it_is_noticed(streamed_or_not: Daemon, tmp_path: Path) -> None:
    daemon = streamed_or_not
    older = outdated_copy(daemon, "tenants/ann/one", tmp_path)
    daemon.signal(signal.SIGSTOP)
    replace(data(daemon) / "tenants/ann/one", older)
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGCONT)
    daemon.wait()
    daemon.start()
    assert counted(daemon) == 2


@pytest.mark.parametrize("mode", ["snapshot", "litestream"])
@pytest.mark.parametrize("running", [False, True])
def test_a_backup_of_the_data_folder_is_older_than_the_store(
    streamed_or_not: Daemon, tmp_path: Path, running: bool
) -> None:
    """As the snapshot of a volume is, of a machine that keeps its name."""
    daemon = streamed_or_not
    assert added(daemon) == 1
    saved(daemon)
    if not running:
        assert daemon.stop() == 0
    older = copied(data(daemon), tmp_path)
    if not running:
        daemon.start()
    assert added(daemon) == 2
    saved(daemon)
    assert daemon.stop() == 0
    replace(data(daemon), older)
    daemon.start()
    assert counted(daemon) == 2
    assert added(daemon) == 3
    assert daemon.stop() == 0
