"""Folders of files from outside: uploads come back with their rows, in both modes, on any machine."""

import contextlib
import json
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fakes.faults import line
from fakes.s3 import Server
from slowness import SLOWNESS
from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, eventually
from whole.wrapped import wrapping

APP = Path(__file__).parent.parent / "apps" / "uploads.py"
SIZES = [0, 1, 100, 4_000, 70_000, 262_144, 262_145, 600_000]
MODES = pytest.mark.parametrize("mode", ["snapshot", "litestream"])


def text(mode: str, store: Path | None = None, *, idle: str = "60s", interval: str = "0") -> str:
    url = f", url: 'file:{store}', session_ttl: 10s" if store is not None else ""
    return f"""
server: {{listen: "127.0.0.1:0", data: data}}
storage: {{interval: {interval}, mode: {mode}{url}}}
app:
  command: [{json.dumps(sys.executable)}, {json.dumps(str(APP))}]
  env: {{DATA: "{{data}}", PORT: "{{port}}"}}
  ready: "{{prefix}}/up"
  idle: {idle}
  databases: [app.sqlite3]
  files: [storage]
users:
  ann:
"""


def everything(daemon: Daemon) -> dict[str, dict[str, str]]:
    answer = daemon.get("/ann/all", timeout=60)
    assert answer.status == 200, answer.text
    return dict(answer.json)


def upload(daemon: Daemon, *names: str, content: bytes | None = None) -> None:
    for name in names:
        assert daemon.post(f"/ann/upload/{name}", name.encode() if content is None else content).status == 200


def upload_mixed(daemon: Daemon, count: int = 200) -> None:
    chance = random.Random(7)
    for number in range(count):
        size = SIZES[number % len(SIZES)] if number % 25 else 1_500_000
        upload(daemon, f"{number % 7:02x}/{number % 13:02x}/blob-{number}", content=chance.randbytes(size))


def whole(found: dict[str, dict[str, str]]) -> bool:
    """Every row has its file, as it was."""
    return all(found["files"].get(name) == digest for name, digest in found["rows"].items())


def versions(daemon: Daemon) -> list[dict[str, Any]]:
    run = daemon.cli("history", "ann", "--json")
    assert run.returncode == 0, run.stderr
    return list(json.loads(run.stdout)["versions"])


@MODES
def test_two_hundred_uploads_survive_idle_stops_lost_data_and_another_machine(
    start: StartDaemon, tmp_path: Path, mode: str
) -> None:
    daemon = start(text(mode, tmp_path / "store", idle="1s"))
    upload_mixed(daemon)
    before = everything(daemon)
    assert len(before["files"]) == len(before["rows"]) == 200
    assert whole(before)
    saved = daemon.until_reported("saved", within=60, tenant="ann", database="storage/")
    daemon.until_reported("tenant stopped", within=60, tenant="ann")
    shutil.rmtree(daemon.folder / "data" / "tenants")
    assert everything(daemon) == before
    restored = daemon.until_reported("restored", tenant="ann", database="storage/")
    assert (saved["files"], restored["files"]) == (200, 200)
    assert daemon.stop() == 0
    assert daemon.reported("the files and the databases are not of one moment") == []
    verified = daemon.cli("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "storage/" in verified.stdout
    other = start(text(mode, tmp_path / "store"))
    assert everything(other) == before
    upload(other, "one/more")
    assert other.stop() == 0
    daemon.start()
    found = everything(daemon)
    assert set(found["files"]) - set(before["files"]) == {"one/more"}
    assert whole(found)
    assert daemon.stop() == 0
    fetched = daemon.reported("restored", tenant="ann", database="storage/")[-1]
    assert fetched["fetched"] == len("one/more"), "only what differs"


@MODES
def test_a_restore_to_a_moment_brings_rows_and_files_of_one_moment(
    start: StartDaemon, tmp_path: Path, mode: str
) -> None:
    daemon = start(text(mode))
    upload(daemon, "a", "b")
    assert daemon.cli("stop", "ann").returncode == 0
    moment = time.time()
    upload(daemon, "c")
    assert daemon.request("DELETE", "/ann/upload/a").status == 200
    assert daemon.cli("stop", "ann").returncode == 0
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03}Z"
    run = daemon.cli("restore", "ann", "--at", at)
    assert run.returncode == 0, run.stderr
    assert "storage/: restored 000001-000000001" in run.stderr
    assert "SAVED WITH" in run.stdout
    found = everything(daemon)
    assert sorted(found["rows"]) == sorted(found["files"]) == ["a", "b"]
    assert whole(found)
    assert daemon.cli("stop", "ann").returncode == 0
    back = next(one for one in versions(daemon) if one["database"] == "storage/" and one["id"].endswith("2"))
    run = daemon.cli("restore", "ann", "storage/", "--version", back["id"])
    assert run.returncode == 0, run.stderr
    assert sorted(everything(daemon)["files"]) == ["b", "c"]
    assert daemon.stop() == 0


@MODES
def test_a_killed_daemon_goes_on_with_all_files_and_a_lost_machine_says_how_old_they_are(
    start: StartDaemon, tmp_path: Path, mode: str
) -> None:
    store = tmp_path / "store"
    daemon = start(text(mode, store))
    upload(daemon, "a")
    assert daemon.cli("backup", "ann").returncode == 0
    upload(daemon, "b")
    daemon.kill_with_supervisor()
    daemon.start()
    found = everything(daemon)
    assert sorted(found["files"]) == sorted(found["rows"]) == ["a", "b"]
    assert daemon.cli("backup", "ann").returncode == 0
    upload(daemon, "c")
    eventually(lambda: mode == "snapshot" or not daemon.status("ann")["unsaved"], what="the stream")
    daemon.lose_machine()
    evidence.grow_old(daemon, store)
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    found = everything(daemon)
    apart = daemon.reported("the files and the databases are not of one moment")
    if mode == "snapshot":
        assert sorted(found["files"]) == sorted(found["rows"]) == ["a", "b"]
        assert apart == []
    else:
        assert sorted(found["rows"]) == ["a", "b", "c"], "the stream is at most seconds behind"
        assert sorted(found["files"]) == ["a", "b"]
        assert "s older than app.sqlite3" in apart[0]["reason"]
        assert any("s older than app.sqlite3" in one for one in daemon.status("ann")["alarms"])
    assert daemon.stop() == 0


def test_a_daemon_killed_at_any_moment_of_a_save_leaves_pairs(start: StartDaemon, tmp_path: Path) -> None:
    store = tmp_path / "store"
    chance = random.Random(3)
    for life in range(6):
        daemon = start(text("snapshot", store, interval="100ms"), folder=tmp_path / f"life{life}")
        before = everything(daemon)
        assert whole(before), f"life {life}"
        for number in range(30):
            upload(daemon, f"{life}-{number}", content=chance.randbytes(3_000))
            if number % 3 == 2:
                assert daemon.request("DELETE", f"/ann/upload/{life}-{number - 1}").status == 200
        time.sleep(chance.random() * 0.3)  # noqa: TID251 - killed at any moment
        daemon.lose_machine()
        evidence.grow_old(daemon, store)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(daemon.folder / "data")
    last = start(text("snapshot", store))
    found = everything(last)
    assert whole(found)
    assert last.stop() == 0
    assert last.cli("verify").returncode == 0


def test_uploads_come_back_from_a_bucket(start: StartDaemon, moto_server: Server) -> None:
    daemon = start(text("snapshot"), env=moto_server.environ(moto_server.bucket()))
    upload_mixed(daemon, 50)
    before = everything(daemon)
    assert daemon.stop() == 0
    shutil.rmtree(daemon.folder / "data")
    assert daemon.cli("verify").returncode == 0
    daemon.start()
    assert everything(daemon) == before
    status = daemon.cli("history", "ann")
    assert "storage/" in status.stdout
    assert daemon.stop() == 0


def test_flyatc_run_saves_and_restores_folders_too(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(
        """
server: {data: ./data}
app: {databases: [app.sqlite3], files: [storage], env: {DATA: "{data}", PORT: "{port}"}}
storage: {url: "file:./store"}
"""
    )
    command = (sys.executable, str(APP))
    with wrapping(tmp_path, *command, options=("--config", "app.yaml")) as one:
        one.start()
        eventually(lambda: one.get("/up").status == 200, what="the app")
        assert one.post("/upload/a/b", b"content").status == 200
        before = one.get("/all").json
        assert one.stop() == 128 + signal.SIGTERM
    shutil.rmtree(tmp_path / "data")
    with wrapping(tmp_path, *command, options=("--config", "app.yaml")) as one:
        one.start()
        eventually(lambda: one.get("/up").status == 200, what="the app")
        assert one.get("/all").json == before
        assert one.stop() == 128 + signal.SIGTERM
    assert list(before["files"]) == list(before["rows"]) == ["a/b"]


def test_what_was_set_aside_and_what_is_skipped_is_shown_by_the_commands(start: StartDaemon, tmp_path: Path) -> None:
    store = tmp_path / "store"
    one, two = start(text("snapshot", store)), start(text("snapshot", store))
    upload(one, "a")
    (one.folder / "data/tenants/ann/~/storage/link").symlink_to("/etc/passwd")
    assert one.cli("backup", "ann", "storage").returncode == 0
    (alarm,) = one.status("ann")["alarms"]
    assert alarm == "storage/: links, sockets, pipes and devices are not saved: link"
    assert one.stop() == 0
    (one.folder / "data/tenants/ann/~/storage/unsaved").write_text("unsaved")
    upload(two, "b")
    assert two.stop() == 0
    one.start()
    assert sorted(everything(one)["files"]) == ["a", "b"]
    listed = one.cli("orphans", "ann", "--json")
    (orphan,) = json.loads(listed.stdout)
    assert (orphan["database"], orphan["size"]) == ("storage/", len("a") + len("unsaved"))
    run = one.cli("restore", "ann", "storage/", "--orphan", orphan["name"])
    assert run.returncode == 0, run.stderr
    assert sorted(everything(one)["files"]) == ["a", "unsaved"]
    assert one.stop() == 0


def test_the_end_is_in_time_although_the_bucket_hangs_and_the_next_start_saves(
    start: StartDaemon, moto_server: Server
) -> None:
    bucket = moto_server.bucket()
    with line(moto_server.port) as wire:
        slow = text("snapshot").replace("data: data}", "data: data, shutdown_timeout: 3s}")
        daemon = start(slow, env=moto_server.environ(bucket, port=wire.port))
        upload_mixed(daemon, 20)
        before = everything(daemon)
        wire.black_hole()
        began = time.monotonic()
        assert daemon.stop() == 1
        assert time.monotonic() - began < 6 * SLOWNESS
        wire.pass_through()
        daemon.start()
        daemon.until_reported("saved", within=30, tenant="ann", database="storage/")
        daemon.until_reported("saved", within=30, tenant="ann", database="app.sqlite3")
        assert daemon.stop() == 0
        shutil.rmtree(daemon.folder / "data")
        daemon.start()
        assert everything(daemon) == before
        assert daemon.reported("the files and the databases are not of one moment") == []
        assert daemon.stop() == 0
