"""A crawler makes up names of "*": they leave nothing behind, and listed users are served as ever."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually

NAMES = 2000
AT_ONCE = 150


def visited(daemon: Daemon, names: list[str]) -> Counter[int]:
    """How many were answered with which status."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(lambda name: daemon.get(f"/{name}/echo", timeout=120).status, names))


def on_record(daemon: Daemon) -> list[str]:
    return sorted(path.name for path in (daemon.folder / "store" / "users").glob("*"))


def folders(daemon: Daemon) -> list[str]:
    return sorted(path.name for path in (daemon.folder / "data" / "tenants").glob("*"))


def test_two_thousand_made_up_names_leave_nothing_and_listed_users_run_on(start: StartDaemon) -> None:
    users = 'users: {ann: {}, bob: {}, "*": {match: "[a-z][0-9]+"}}'
    daemon = start(config(users=users, flags=("--lazy-db",), top="limits: {running: 4}"))
    for user in ("ann", "bob"):
        assert daemon.post(f"/{user}/add").json["count"] == 1
    before = {user: daemon.status(user)["pid"] for user in ("ann", "bob")}
    counts = visited(daemon, [f"x{number}" for number in range(NAMES)])
    assert set(counts) <= {200, 503}, counts
    assert counts[200] >= 10
    assert counts[503] > NAMES / 2, "starts for made-up names are bounded"
    assert {user: daemon.status(user)["pid"] for user in ("ann", "bob")} == before, "no one took their places"
    assert daemon.stop() == 0
    assert folders(daemon) == ["ann", "bob"]
    assert on_record(daemon) == ["ann", "bob"]


def test_what_a_user_of_the_pattern_has_written_stays(start: StartDaemon, tmp_path: Path) -> None:
    users = 'users: {"*": {match: "[a-z][0-9]+"}}'
    daemon = start(config(users=users, flags=("--lazy-db",)))
    assert daemon.get("/x1/echo").status == 200
    assert daemon.post("/x2/add").json["count"] == 1
    assert daemon.cli("stop", "x1").returncode == daemon.cli("stop", "x2").returncode == 0
    assert (folders(daemon), on_record(daemon)) == (["x2"], ["x2"])
    assert daemon.post("/x1/add").json["count"] == 1
    assert daemon.stop() == 0
    assert on_record(daemon) == ["x1", "x2"]
    record = json.loads((daemon.folder / "store" / "users" / "x1" / "owner.json").read_bytes())
    assert (record["state"], record["epoch"]) == ("released", 1)


def test_a_crash_leaves_what_the_next_start_clears_away(start: StartDaemon) -> None:
    daemon = start(config(users='users: {"*": {match: "[a-z][0-9]+"}}', flags=("--lazy-db",)))
    assert daemon.get("/x1/echo").status == 200
    assert folders(daemon) == ["x1"]
    daemon.kill()
    daemon.start()
    eventually(lambda: folders(daemon) == on_record(daemon) == [], 20, "all is cleared away")
    assert daemon.stop() == 0
