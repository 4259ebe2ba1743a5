"""A daemon that cannot run says so in a sentence, and has started nothing."""

import socket
import subprocess
from pathlib import Path

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config


def refused(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """``flyatc serve`` which is expected to end by itself."""
    daemon = Daemon(folder, text)
    folder.mkdir(parents=True, exist_ok=True)
    daemon.write()
    run = daemon.cli("serve", timeout=20)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    return run


def test_a_second_daemon_on_one_data_folder_refuses_and_the_first_is_undisturbed(
    start: StartDaemon, tmp_path: Path
) -> None:
    daemon = start(config())
    pid = daemon.get("/ann/one/echo").json["pid"]
    run = refused(tmp_path / "second", config(server=f"  data: {daemon.folder / 'data'}"))
    assert "another flyatc runs on the data folder" in run.stdout + run.stderr
    assert daemon.get("/ann/one/echo").json["pid"] == pid


def test_a_busy_port_is_reported_and_no_app_is_started_or_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = refused(tmp_path / "late", config().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    assert f"cannot listen on 127.0.0.1:{port}" in run.stdout + run.stderr
    assert "or set PORT or server.listen" in run.stdout + run.stderr
    assert evidence.processes_of(tmp_path) == []


def test_all_faults_of_a_configuration_are_reported_at_once(tmp_path: Path) -> None:
    faulty = config(app="  iddle: 5m\n  ready: up", server="  root: customers", users="users: {'../x': {}, ann: {}}")
    run = refused(tmp_path / "faulty", faulty)
    reported = run.stdout + run.stderr
    for fault in ("app.iddle", "idle", "app.ready", "server.root", "../x"):
        assert fault in reported
    assert not (tmp_path / "faulty" / "data").exists()


def test_a_store_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "storeless"
    folder.mkdir()
    (folder / "store").write_bytes(b"")
    run = refused(folder, config())
    assert "the store at" in run.stdout + run.stderr
