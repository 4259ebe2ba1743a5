"""A copy in the store that is damaged while its tenant runs: found by storage.verify, reported, replaced at once.
Nothing is removed, and what is in the store can then be restored without the machine that made it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


DAMAGES = [truncate, flip, remove]
SUFFIXES = {"litestream": "*.ltx", "snapshot": "*.sqlite3.zst"}


def overview(daemon: Daemon) -> Any:
    return json.loads(daemon.cli("status", "--json").stdout)


def stored(daemon: Daemon, mode: str) -> list[Path]:
    return sorted((daemon.folder / "store").rglob(SUFFIXES[mode]))


def needed(files: list[Path], mode: str) -> list[Path]:
    """Those without which nothing is restored: the last snapshot, or all which begin with the first transaction."""
    return [file for file in files if file.name.startswith(f"{1:016x}-")] if mode == "litestream" else files[-1:]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("mode", ["litestream", "snapshot"])
def test_a_copy_damaged_while_its_tenant_runs_is_found_reported_and_replaced(
    start: StartDaemon, mode: str, damage: Callable[[Path], None]
) -> None:
    text = config(server="  control: 127.0.0.1:0").replace(
        "{interval: 0}", f"{{interval: 1s, mode: {mode}, verify: 1s}}"
    )
    daemon = start(text)
    for count in range(1, 6):
        assert daemon.post("/ann/one/add").json["count"] == count
    eventually(lambda: stored(daemon, mode), 20, "the save")
    daemon.until_reported("verified", within=20)
    damaged: list[Path] = []

    def found() -> list[dict[str, Any]]:
        """A compaction may write a sound file beside the damaged ones, from litestream's own: it is damaged as well."""
        if reported := daemon.reported("what the store has cannot be restored"):
            return reported
        for file in needed(stored(daemon, mode), mode):
            if file not in damaged:
                damage(file)
                damaged.append(file)
        return []

    error = eventually(found, 30, "the alarm")[0]
    assert (error["level"], error["tenant"], error["database"]) == ("error", "ann/one", "app.sqlite3")
    daemon.until_reported("the store has a new copy, made of the local file", within=30)
    verified = len(daemon.reported("verified"))
    eventually(lambda: len(daemon.reported("verified")) > verified, 30, "another drill")
    assert overview(daemon)["verified"]["bad"] == []
    assert overview(daemon)["verified"]["healed"] >= 1
    if damage is not remove:
        assert set(damaged) <= set(stored(daemon, mode)), "a drill removes nothing"
    assert daemon.post("/ann/one/add").json["count"] == 6
    assert daemon.stop() == 0
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    assert daemon.get("/ann/one/count").json["count"] == 6


def test_a_store_which_has_lost_all_of_a_stream_while_its_tenant_runs_gets_it_again(start: StartDaemon) -> None:
    daemon = start(config().replace("{interval: 0}", "{interval: 0, mode: litestream, verify: 1s}"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    eventually(lambda: not daemon.status("ann/one")["unsaved"], 20, "the stream")
    daemon.until_reported("verified", within=20)
    shutil.rmtree(daemon.folder / "store" / "users" / "ann" / "one" / "app.sqlite3")
    daemon.until_reported("what the store has cannot be restored", within=30)
    daemon.until_reported("the store has a new copy, made of the local file", within=30)
    assert stored(daemon, "litestream")
    daemon.lose_machine()
    evidence.grow_old(daemon, daemon.folder / "store")
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    assert daemon.get("/ann/one/count").json["count"] == 1
