"""The databases of a wrapped app: restored before it starts, saved when it has ended."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fakes.faults import line
from fakes.s3 import Server
from whole import visits
from whole.daemon import eventually
from whole.visits import Line
from whole.wrapped import RESTLESS_APP, Wrapped, gone, wrapping

CONFIG = """
server: {{data: ./data}}
app:
  databases: [app.sqlite3]
  env: {{DATABASE_PATH: "{{data}}/app.sqlite3"}}
  stop_grace: 200ms
storage: {{url: "file:./store", interval: {interval}}}
"""


@contextmanager
def stored(folder: Path, *flags: str, interval: str = "0", command: tuple[str, ...] = ()) -> Iterator[Wrapped]:
    """Not yet begun."""
    (folder / "app.yaml").write_text(CONFIG.format(interval=interval))
    with wrapping(folder, *(command or (*RESTLESS_APP, *flags)), options=("--config", "app.yaml")) as one:
        yield one


@pytest.mark.parametrize("fault", ["refuse", "black_hole"])
def test_a_store_that_is_away_at_the_start_is_waited_for(tmp_path: Path, moto_server: Server, fault: str) -> None:
    text = CONFIG.format(interval="0").replace('url: "file:./store", ', "")
    (tmp_path / "app.yaml").write_text(text)
    with line(moto_server.port) as wire:
        getattr(wire, fault)()
        environ = moto_server.environ(moto_server.bucket(), port=wire.port)
        with wrapping(tmp_path, *RESTLESS_APP, options=("--config", "app.yaml"), env=environ) as one:
            one.launch()
            one.until_reported("the store is away: the app waits for it", within=30)
            assert not one.reported("app started")
            wire.pass_through()
            one.until_reported("app started", within=60)
            one.port = int(one.until_reported("listening")["on"].rpartition(":")[2])
            assert one.get("/up").status == 200, "from now on the app handles SIGTERM"
            assert one.stop() == 0


def test_a_store_that_stays_away_at_the_start_ends_it_with_the_reason(tmp_path: Path, moto_server: Server) -> None:
    text = CONFIG.format(interval="0").replace('url: "file:./store", ', "")
    (tmp_path / "app.yaml").write_text(text.replace("  stop_grace", "  start_timeout: 2s\n  stop_grace"))
    with line(moto_server.port) as wire:
        wire.refuse()
        environ = moto_server.environ(moto_server.bucket(), port=wire.port)
        with wrapping(tmp_path, *RESTLESS_APP, options=("--config", "app.yaml"), env=environ) as one:
            one.launch()
            assert one.wait(60) == 1
            assert "does not answer" in str(one.lines()[-1]["msg"])
            assert not one.reported("app started")


def lose_the_disk(folder: Path) -> None:
    """Return what comes next is another machine; who was killed has been silent for long."""
    shutil.rmtree(folder / "data")
    for session in (folder / "store" / "machines").glob("*.json"):
        os.utime(session, (time.time() - 3600,) * 2)


def test_what_the_app_wrote_is_saved_at_its_end_and_restored_before_its_start(tmp_path: Path) -> None:
    with stored(tmp_path) as one:
        one.start()
        assert one.post("/add").json == {"count": 1}
        assert one.stop() == 0
    lose_the_disk(tmp_path)
    with stored(tmp_path) as one:
        one.start()
        assert one.post("/add").json == {"count": 2}
        assert one.stop() == 0


def test_the_exit_code_is_the_childs_also_where_it_died(tmp_path: Path) -> None:
    with stored(tmp_path) as one:
        one.start()
        assert one.post("/add").json == {"count": 1}
        one.get("/die?code=7")
        assert one.wait() == 7
    lose_the_disk(tmp_path)
    with stored(tmp_path) as one:
        assert one.start().get("/count").json == {"count": 1}


def test_a_wrapper_that_is_killed_has_saved_at_intervals(tmp_path: Path) -> None:
    with stored(tmp_path, interval="100ms") as one:
        one.start()
        one.post("/add")
        pointer = tmp_path / "store/users/app/~/app.sqlite3/current.json"
        before = pointer.read_bytes() if pointer.exists() else b""
        one.post("/add")
        eventually(lambda: pointer.exists() and pointer.read_bytes() != before, what="a save")
        one.post("/add")
        after = pointer.read_bytes()
        eventually(lambda: pointer.read_bytes() != after, what="another save")
        app = one.app
        one.kill()
        eventually(lambda: gone(app), what="the end of the app")
    lose_the_disk(tmp_path)
    with stored(tmp_path) as one:
        assert one.start().get("/count").json["count"] >= 2


def test_a_store_that_is_away_at_the_end_is_1_and_loud_and_the_next_start_saves(tmp_path: Path) -> None:
    with stored(tmp_path) as one:
        one.start()
        one.post("/add")
        (tmp_path / "store").rename(tmp_path / "away")
        assert one.stop() == 1
        assert one.reported("not saved: the local copy is kept", level="error")
    (tmp_path / "away").rename(tmp_path / "store")
    with stored(tmp_path, command=("true",)) as one:
        assert one.run() == 0
    lose_the_disk(tmp_path)
    with stored(tmp_path) as one:
        assert one.start().get("/count").json == {"count": 1}


def test_databases_that_cannot_be_checked_start_nothing(tmp_path: Path) -> None:
    with stored(tmp_path) as one:
        one.start()
        one.post("/add")
        assert one.stop() == 0
    lose_the_disk(tmp_path)
    for snapshot in (tmp_path / "store").rglob("*.zst"):
        snapshot.write_bytes(b"damaged")
    with stored(tmp_path, command=("touch", "ran")) as one:
        assert one.run() == 1
        assert one.reported("", level="error")
        assert not (tmp_path / "ran").exists()


def test_a_daemon_ended_before_the_app_starts_starts_nothing(tmp_path: Path) -> None:
    with stored(tmp_path) as one:
        one.start()
        one.post("/add")
        assert one.stop() == 0
    lose_the_disk(tmp_path)
    (snapshot,) = (tmp_path / "store").rglob("*.zst")
    snapshot.unlink()
    os.mkfifo(snapshot)
    with stored(tmp_path, command=("touch", "ran")) as one, Line(one.start()) as line:
        line.send(visits.request("/up"))
        with snapshot.open("wb", buffering=0) as slow:  # opens as soon as the restore reads it
            one.signal(signal.SIGTERM)
            one.until_reported("SIGTERM: not started")
            with suppress(BrokenPipeError):
                slow.write(bytes(8 << 20))
        assert one.wait() == 143
        assert line.reply().status == 502
        assert not (tmp_path / "ran").exists()


def test_a_data_folder_serves_one_wrapper(tmp_path: Path) -> None:
    with stored(tmp_path) as one, stored(tmp_path, command=("touch", "ran")) as other:
        one.start()
        assert other.run() == 1
        assert other.reported("another flyatc runs on the data folder", level="error")
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("where", ["same", "session"])
def test_no_process_left_behind_by_the_app_writes_after_the_save(tmp_path: Path, where: str) -> None:
    with stored(tmp_path, "--fork-child", where, "--child-holds-db") as one:
        one.start()
        one.post("/add")
        left = int(one.output.partition("grandchild ")[2].split()[0])
        assert one.stop() == 0
        assert gone(left)


def test_the_file_needs_no_users_and_those_it_has_do_not_count(tmp_path: Path) -> None:
    with stored(tmp_path, command=("sh", "-c", 'echo "$DATABASE_PATH" "$PORT"')) as one:
        (tmp_path / "app.yaml").write_text(CONFIG.format(interval=0) + "users: {ann: {tenants: [x]}}\n")
        one.env["PORT"] = "not a port of ours"
        assert one.run() == 0
        assert one.output.split() == [str(tmp_path / "data/app.sqlite3"), str(one.target)]


def test_an_app_that_had_to_be_killed_is_saved_too(tmp_path: Path) -> None:
    with stored(tmp_path, "--ignore-term") as one:
        one.start()
        assert one.post("/add").json == {"count": 1}
        one.signal(signal.SIGTERM)
        one.until_reported("relaying SIGTERM")
        os.kill(one.app, signal.SIGKILL)
        assert one.wait() == 137
    lose_the_disk(tmp_path)
    with stored(tmp_path) as one:
        assert one.start().get("/count").json == {"count": 1}


def daemonizing(folder: Path) -> tuple[str, ...]:
    """A command that leaves a process behind in a session of its own; its pid is in a file."""
    left = f"setsid sh -c 'echo $$ > {folder}/left; exec sleep 600' </dev/null >/dev/null 2>&1 &"
    return "sh", "-c", f'({left}); exec "$@"', "sh", *RESTLESS_APP


def left_behind(folder: Path) -> int:
    path = folder / "left"
    return int(eventually(lambda: path.exists() and path.read_text(), what="what is left behind"))


def test_a_wrapper_that_is_stopped_for_longer_than_its_lease_has_no_app_any_more(tmp_path: Path) -> None:
    with stored(tmp_path, command=daemonizing(tmp_path)) as one:
        (tmp_path / "app.yaml").write_text(CONFIG.format(interval="0, session_ttl: 10s"))
        one.start()
        assert one.post("/add").json == {"count": 1}
        app, left = one.app, left_behind(tmp_path)
        one.signal(signal.SIGSTOP)
        eventually(lambda: gone(left), within=30, what="the end of what the app left behind")
        eventually(lambda: gone(app), within=5, what="the end of the app")
        one.signal(signal.SIGCONT)
        assert one.wait() == 1
        assert one.reported("the lease of this machine has ended: the supervisor has killed the apps")
        assert not one.reported("saved")


def test_what_the_app_of_a_killed_wrapper_left_behind_is_ended(tmp_path: Path) -> None:
    with stored(tmp_path, command=daemonizing(tmp_path)) as one:
        one.start()
        assert one.post("/add").json == {"count": 1}
        left = left_behind(tmp_path)
        one.kill()
        eventually(lambda: gone(left), within=30, what="the end of what was left behind")
    with stored(tmp_path) as one:
        one.start()
        assert one.get("/count").json == {"count": 1}
        assert one.stop() == 0
