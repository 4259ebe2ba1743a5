"""Tests of what an app has written comes back: from the store, the seed, or the local copy, whichever counts."""

import shutil
import sqlite3
from pathlib import Path

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually


def saved(daemon: Daemon, tenant: str, rows: int) -> None:
    """Waits until the store has so many rows."""
    remote = evidence.remote(daemon, tenant)
    eventually(
        lambda: evidence.pointer(remote) and evidence.stored_rows(remote) == rows, what=f"{rows} rows in the store"
    )


def test_databases_are_restored_before_the_app_starts(start: StartDaemon) -> None:
    daemon = start(config(idle="200ms"))
    for count in (1, 2, 3):
        with evidence.one_life(daemon, "ann/one"):
            assert daemon.post("/ann/one/add").json["count"] == count
        shutil.rmtree(daemon.folder / "data" / "tenants")
    assert daemon.stop() == 0
    shutil.rmtree(daemon.folder / "data")
    daemon.start()
    assert daemon.get("/ann/one/count").json["count"] == 3
    eventually(lambda: len(daemon.reported("restored", tenant="ann/one")) == 3, what="the third line")


def test_a_running_app_is_saved_at_intervals_when_something_changed(start: StartDaemon) -> None:
    daemon = start(config().replace("interval: 0", "interval: 200ms"))
    for count in (1, 2):
        assert daemon.post("/ann/one/add").json["count"] == count
        saved(daemon, "ann/one", count)
    assert daemon.post("/ann/two/add").json["count"] == 1
    saved(daemon, "ann/two", 1)
    first = evidence.pointer(evidence.remote(daemon, "ann/one"))
    assert daemon.post("/ann/two/add").json["count"] == 2
    saved(daemon, "ann/two", 2)  # a whole round later
    assert evidence.pointer(evidence.remote(daemon, "ann/one")) == first, "nothing changed, nothing saved"
    assert daemon.reported("tenant draining") == []


def test_a_busy_database_is_saved_while_it_is_written(start: StartDaemon) -> None:
    daemon = start(config().replace("interval: 0", "interval: 100ms"))
    remote = evidence.remote(daemon, "ann/one")
    assert daemon.post("/ann/one/grow?mb=3").status == 200

    def seen() -> bool:
        daemon.post("/ann/one/add")
        return len(evidence.snapshots(remote)) > 3

    eventually(seen, 20, "a save amid writes")
    assert evidence.stored_rows(remote) > 0
    count = daemon.get("/ann/one/count").json["count"]
    assert daemon.stop() == 0
    assert evidence.stored_rows(remote) == count


def test_a_new_tenant_begins_with_the_seed_and_an_old_one_does_not(start: StartDaemon, tmp_path: Path) -> None:
    seed = tmp_path / "seed.sqlite3"
    with sqlite3.connect(seed) as made:
        made.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, at REAL)")
        made.executemany("INSERT INTO rows (at) VALUES (?)", [(1.0,)] * 7)
    made.close()
    daemon = start(config(app=f"  seed: {seed}", idle="200ms"))
    with evidence.one_life(daemon, "ann/one"):
        assert daemon.post("/ann/one/add").json["count"] == 8
    shutil.rmtree(daemon.folder / "data" / "tenants")
    assert daemon.get("/ann/one/count").json["count"] == 8
    assert len(daemon.reported("seeded")) == 1
    seed.write_bytes(b"not a database")
    assert daemon.get("/ann/two/count").status == 503
    assert "seed" in daemon.until_reported("the start failed", tenant="ann/two")["reason"]
    assert not evidence.database(daemon, "ann/two").exists()


def test_all_databases_of_a_tenant_are_saved_and_restored(start: StartDaemon) -> None:
    names = ["app.sqlite3", "queue.sqlite3", "deep/er/cache.sqlite3"]
    text = config(idle="200ms").replace("[app.sqlite3]", f"[{', '.join(names)}]")
    daemon = start(text)
    with evidence.one_life(daemon, "ann/one"):
        assert daemon.post("/ann/one/add").json["count"] == 1
        for number, name in enumerate(names[1:], 2):
            with sqlite3.connect(evidence.database(daemon, "ann/one", name)) as other:
                other.execute("CREATE TABLE rows (n INTEGER)")
                other.executemany("INSERT INTO rows VALUES (?)", [(0,)] * number)
            other.close()
    shutil.rmtree(daemon.folder / "data" / "tenants")
    assert daemon.get("/ann/one/count").json["count"] == 1
    found = [evidence.rows(evidence.database(daemon, "ann/one", name)) for name in names[1:]]
    assert found == [2, 3]
    remotes = daemon.folder / "store" / "users" / "ann" / "one"
    assert sorted(path.name for path in remotes.iterdir()) == ["app.sqlite3", "deep~er~cache.sqlite3", "queue.sqlite3"]


def test_so_many_snapshots_are_kept_as_were_asked_for(start: StartDaemon) -> None:
    daemon = start(config(idle="150ms").replace("interval: 0", "interval: 0, keep: 3"))
    remote = evidence.remote(daemon, "ann/one")
    for count in range(1, 6):
        with evidence.one_life(daemon, "ann/one"):
            assert daemon.post("/ann/one/add").json["count"] == count
    assert [path.name[:16] for path in evidence.snapshots(remote)] == [f"000001-{n:09}" for n in (3, 4, 5)]
    assert evidence.stored_rows(remote) == 5


def test_a_stale_local_copy_never_wins(start: StartDaemon, tmp_path: Path) -> None:
    text = config(idle="200ms").replace("{interval: 0}", f"{{interval: 0, url: 'file:{tmp_path / 'shared'}'}}")
    home, away = start(text), start(text)
    with evidence.one_life(home, "ann/one"):
        assert [home.post("/ann/one/add").json["count"] for _ in range(2)] == [1, 2]
    with evidence.one_life(away, "ann/one"):
        assert away.post("/ann/one/add").json["count"] == 3
    with evidence.one_life(home, "ann/one"):
        assert home.get("/ann/one/count").json["count"] == 3
    assert home.reported("the local copy was set aside") == [], "it is a version which the store has had"
    assert len(home.reported("saved", tenant="ann/one")) == 1


def test_a_killed_daemon_whose_tenant_went_on_elsewhere_does_not_write_over_that(
    start: StartDaemon, tmp_path: Path
) -> None:
    text = config(idle="300ms").replace("{interval: 0}", f"{{interval: 0, url: 'file:{tmp_path / 'shared'}'}}")
    home, away = start(text), start(text)
    with evidence.one_life(home, "ann/one"):
        assert home.post("/ann/one/add").json["count"] == 1
    assert home.post("/ann/one/add").json["count"] == 2
    home.kill()
    evidence.grow_old(home, tmp_path / "shared")
    with evidence.one_life(away, "ann/one"):
        assert [away.post("/ann/one/add").json["count"] for _ in range(2)] == [2, 3]
    home.start()
    aside = Path(home.until_reported("the local copy was set aside", tenant="ann/one")["path"])
    assert evidence.rows(aside / "app.sqlite3") == 2, "kept, for an operator who has to compare the two"
    assert home.get("/ann/one/count").json["count"] == 3


def test_after_a_restart_status_shows_when_each_tenant_was_last_saved(start: StartDaemon) -> None:
    daemon = start(config())
    daemon.post("/ann/one/add")
    daemon.cli("stop", "ann/one")
    before = daemon.status("ann/one")["saved_at"]
    assert before is not None
    assert daemon.stop() == 0
    daemon.start()
    eventually(lambda: daemon.status("ann/one")["saved_at"] == before, what="the time of the save")
    assert daemon.status("ann/two")["saved_at"] is None
    assert daemon.status("ann/one")["starts"] == 0, "nothing was started for it"
