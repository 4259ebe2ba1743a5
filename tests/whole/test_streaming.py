"""Litestream mode from outside: what a killed machine had written, and changing the mode."""

import shutil
from pathlib import Path

import pytest

from fakes.s3 import Server
from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually


def text(mode: str, *, url: str | None = None, idle: str = "60s") -> str:
    at = f", url: '{url}'" if url else ""
    return config(idle=idle).replace("{interval: 0}", f"{{interval: 0, mode: {mode}{at}}}")


def add(daemon: Daemon, *counts: int) -> None:
    for count in counts:
        assert daemon.post("/ann/one/add").json["count"] == count


def streamed(daemon: Daemon) -> bool:
    """All that was acknowledged is in the store."""
    return not daemon.status("ann/one")["unsaved"]


def lose_the_machine(daemon: Daemon, store: Path | None = None) -> None:
    daemon.lose_machine()
    if store is not None:
        evidence.grow_old(daemon, store)
    shutil.rmtree(daemon.folder / "data")


def test_what_streamed_outlives_the_machine_which_wrote_it(start: StartDaemon) -> None:
    daemon = start(text("litestream"))
    add(daemon, 1, 2, 3)
    eventually(lambda: streamed(daemon), what="the stream")
    lose_the_machine(daemon, daemon.folder / "store")
    daemon.start()
    add(daemon, 4)
    daemon.kill()
    daemon.start()
    add(daemon, 5)
    assert daemon.reported("the local copy was set aside") == []
    assert daemon.stop() == 0


def test_twenty_writes_and_a_signal_lose_nothing_in_a_bucket(start: StartDaemon, moto_server: Server) -> None:
    daemon = start(text("litestream"), env=moto_server.environ(moto_server.bucket()))
    add(daemon, *range(1, 21))
    assert daemon.stop() == 0
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    add(daemon, 21)
    assert daemon.stop() == 0


def test_the_mode_can_be_changed_there_and_back_on_any_machine_after_a_clean_stop(
    start: StartDaemon, tmp_path: Path
) -> None:
    url = f"file:{tmp_path / 'shared'}"
    home = start(text("snapshot", url=url))
    add(home, 1)
    assert home.stop() == 0
    home.write(text("litestream", url=url))
    home.start()
    add(home, 2, 3)
    assert home.stop() == 0
    away = start(text("snapshot", url=url))
    add(away, 4)
    assert away.stop() == 0
    home.start()
    add(home, 5)
    assert home.stop() == 0
    away.start()
    assert away.get("/ann/one/count").json["count"] == 5
    assert away.stop() == 0


def test_in_snapshot_mode_nothing_is_served_of_what_only_litestream_has(start: StartDaemon, tmp_path: Path) -> None:
    store = tmp_path / "shared"
    home = start(text("litestream", url=f"file:{store}"))
    add(home, 1)
    assert home.stop() == 0
    home.start()
    add(home, 2)
    eventually(lambda: streamed(home), what="the stream")
    lose_the_machine(home, store)
    away = start(text("snapshot", url=f"file:{store}"))
    assert away.get("/ann/one/count").status == 503, "its snapshot is not the newest"
    assert "litestream has streamed it" in away.until_reported("the start failed", tenant="ann/one")["reason"]
    assert away.stop() == 0


@pytest.mark.parametrize("choice", ["--version", "--at"])
def test_a_moment_can_be_gone_back_to(start: StartDaemon, choice: str) -> None:
    daemon = start(text("litestream"))
    add(daemon, 1)
    eventually(lambda: streamed(daemon), what="the stream")
    value = {"--at": "0s", "--version": "000001-000000001"}[choice]
    taken = daemon.cli("restore", "ann/one", choice, value)
    assert taken.returncode == 0, taken.stderr
    assert daemon.get("/ann/one/count").json["count"] == 1
    assert daemon.stop() == 0
