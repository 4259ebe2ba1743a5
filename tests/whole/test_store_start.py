"""The store is away when the daemon starts: it serves what needs no store, and goes on by itself."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import refusals
from fakes.faults import Line, line
from fakes.s3 import Server
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, Answer, Daemon, clean_environment, config, eventually

TEXT = config(
    app="  delivery: {static: [{path: /assets, folder: public}]}",
    server="  health: /health",
)


def begun(start: StartDaemon, folder: Path, environ: dict[str, str]) -> Daemon:
    (folder / "public").mkdir(parents=True)
    (folder / "public" / "a.txt").write_text("static")
    return start(TEXT, env=environ, folder=folder)


def serves_without_the_store(daemon: Daemon, why: str) -> None:
    assert daemon.get("/health").status == 200
    assert daemon.get("/ann/one/assets/a.txt").text == "static"
    answer = daemon.get("/ann/one/count")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert why in str(daemon.until_reported("the start failed", tenant="ann/one")["reason"])
    overview = json.loads(daemon.cli("status", "--json").stdout)
    assert why in overview["daemon"]["store"]
    assert why in daemon.cli("status").stderr


def counts(daemon: Daemon, path: str = "/ann/one/add") -> Answer | None:
    answer = daemon.post(path)
    return answer if answer.status == 200 else None


@contextlib.contextmanager
def black_hole(server: Server) -> Iterator[Line]:
    with line(server.port) as wire:
        wire.black_hole()
        yield wire


@pytest.mark.parametrize("fault", ["refuse", "reset", "black_hole", "endless"])
def test_a_daemon_whose_store_is_away_serves_what_it_can_and_goes_on_when_it_is_back(
    start: StartDaemon, moto_server: Server, tmp_path: Path, fault: str
) -> None:
    with line(moto_server.port) as wire:
        getattr(wire, fault)()
        bucket = moto_server.bucket()
        daemon = begun(start, tmp_path / "daemon", moto_server.environ(bucket, port=wire.port))
        serves_without_the_store(daemon, "given up" if fault == "endless" else "does not answer")
        assert daemon.reported("the store is away", level="warning")
        wire.pass_through()
        assert eventually(lambda: counts(daemon), 30, "the store's return").json["count"] == 1
        assert daemon.reported("the store can be used")
        assert json.loads(daemon.cli("status", "--json").stdout)["daemon"]["store"] is None
        assert daemon.stop() == 0
        assert "users/ann/one/app.sqlite3/current.json" in {
            one["Key"] for one in moto_server.client.list_objects_v2(Bucket=bucket)["Contents"]
        }
        assert not daemon.reported("unexpected error")


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (refusals.BROKEN, "500 InternalError"),
        ((503, "SlowDown", "Please reduce your request rate."), "503 SlowDown"),
        (refusals.CLOCK, "this machine's clock is too far from the store's: set it"),
    ],
)
def test_a_daemon_whose_store_refuses_all_requests_now_ends_in_time(
    start: StartDaemon, tmp_path: Path, refusal: tuple[int, str, str], why: str
) -> None:
    with refusals.refusing(*refusal) as server:
        daemon = begun(start, tmp_path / "daemon", server.environ("ours"))
        serves_without_the_store(daemon, why)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 15 * SLOWNESS


def test_a_daemon_whose_store_has_an_unknown_host_name_serves_what_it_can(
    start: StartDaemon, moto_server: Server, tmp_path: Path
) -> None:
    environ = moto_server.environ("ours") | {"AWS_ENDPOINT_URL_S3": "http://nowhere.invalid:9"}
    daemon = begun(start, tmp_path / "daemon", environ)
    serves_without_the_store(daemon, "nowhere.invalid")
    assert daemon.stop() == 0


def test_a_daemon_that_gets_sigterm_while_it_waits_for_the_store_stops(moto_server: Server, tmp_path: Path) -> None:
    with line(moto_server.port) as wire:
        wire.drip(0.2)  # the first answer takes a minute, and is given up after three seconds
        daemon = Daemon(tmp_path / "daemon", TEXT, moto_server.environ("ours", port=wire.port))
        daemon.folder.mkdir()
        daemon.write()
        with daemon.log_file.open("ab") as log:
            daemon.process = subprocess.Popen(
                [sys.executable, "-m", "flyatc", "serve", "--config", str(daemon.config_file)],
                stdout=log,
                cwd=daemon.folder,
                env={**clean_environment(), **daemon.env},
            )
        eventually(lambda: wire.asked, 60, "the first request to the store")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 10 * SLOWNESS
        assert not daemon.reported("unexpected error")


def test_a_store_that_comes_back_and_ignores_conditions_is_refused_then(
    start: StartDaemon, moto_server: Server, rclone_server: Server, tmp_path: Path
) -> None:
    bucket = rclone_server.bucket()
    with black_hole(rclone_server) as wire:
        daemon = begun(start, tmp_path / "daemon", rclone_server.environ(bucket, port=wire.port))
        assert daemon.get("/ann/one/count").status == 503
        wire.pass_through()
        daemon.until_reported("the store refuses us", within=30, level="error")
        answer = daemon.get("/bob/count")
        assert answer.status == 503
        assert "ignores conditions" in str(daemon.until_reported("the start failed", tenant="bob")["reason"])
        assert "ignores conditions" in daemon.cli("status").stderr
        assert daemon.get("/health").status == 200
        assert daemon.stop() == 0


def test_visits_that_come_while_the_store_is_being_tested_wait_for_it(
    start: StartDaemon, moto_server: Server, tmp_path: Path
) -> None:
    """A slow store is not one that is away."""
    with line(moto_server.port) as wire:
        wire.delay(0.6)  # for each piece: the test makes some ten requests, one after the other
        daemon = begun(start, tmp_path / "daemon", moto_server.environ(moto_server.bucket(), port=wire.port))
        wire.delay(0.05)
        assert daemon.post("/ann/one/add", timeout=60).json["count"] == 1
        assert not daemon.reported("the start failed")
        assert daemon.stop() == 0


def test_what_a_killed_daemon_left_unsaved_is_saved_when_the_store_is_back(
    start: StartDaemon, moto_server: Server, tmp_path: Path
) -> None:
    bucket = moto_server.bucket()
    with line(moto_server.port) as wire:
        daemon = begun(start, tmp_path / "daemon", moto_server.environ(bucket, port=wire.port))
        assert daemon.post("/ann/one/add").json["count"] == 1
        daemon.kill()
        wire.refuse()
        daemon.start()
        assert daemon.get("/health").status == 200
        threading.Timer(1.0, wire.pass_through).start()
        daemon.until_reported("saved", within=60, tenant="ann/one")
        assert daemon.stop() == 0


def test_the_last_words_of_a_daemon_that_cannot_start_are_lines_of_its_log(moto_server: Server, tmp_path: Path) -> None:
    texts = {
        "has no bucket nowhere: create it": TEXT,
        "did you mean": TEXT.replace("stop_grace", "stop_grac"),
        "cannot listen": TEXT.replace("127.0.0.1:0", f"127.0.0.1:{moto_server.port}"),
    }
    for number, (words, text) in enumerate(texts.items()):
        daemon = Daemon(tmp_path / str(number), text, moto_server.environ("nowhere"))
        daemon.folder.mkdir()
        daemon.write()
        run = daemon.cli("serve", timeout=60)
        assert run.returncode == 1
        assert run.stderr == ""
        last = json.loads(run.stdout.splitlines()[-1])
        assert last["level"] == "error"
        assert last["msg"].startswith("not started")
        assert words in run.stdout
