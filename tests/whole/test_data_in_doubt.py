"""If the store cannot be trusted or written, nothing starts empty and nothing is overwritten."""

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Answer, Daemon, config, eventually


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 4
    path.write_bytes(body)


def with_history(start: StartDaemon, count: int = 2) -> Daemon:
    """A daemon whose ann/one was saved ``count`` times and is stopped; ann/two runs."""
    daemon = start(config(idle="200ms"))
    for number in range(1, count + 1):
        with evidence.one_life(daemon, "ann/one"):
            assert daemon.post("/ann/one/add").json["count"] == number
    return daemon


def refused(daemon: Daemon) -> str:
    """ann/one is 503, and the others do not mind; the reason in the log."""
    before = len(daemon.reported("the start failed", tenant="ann/one"))
    answer = daemon.get("/ann/one/count")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    reported = eventually(lambda: daemon.reported("the start failed", tenant="ann/one")[before:], what="the reason")
    return str(reported[0]["reason"])


def answered(daemon: Daemon) -> Answer | None:
    """Return what ann/one answers, once it does."""
    answer = daemon.get("/ann/one/count")
    return answer if answer.status == 200 else None


@contextmanager
def largest_file(daemon: Daemon, octets: int) -> Iterator[None]:
    """The daemon, and it alone, meets a full disk: no file of its own may grow beyond that. getrlimit(2)."""
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_snapshot_is_503_the_one_before_is_offered_and_nothing_is_overwritten(
    start: StartDaemon, damage: Callable[[Path], None]
) -> None:
    daemon = with_history(start)
    remote = evidence.remote(daemon, "ann/one")
    damage(remote / evidence.pointer(remote)["key"])
    before = evidence.everything_in(remote, but_owner=True)
    shutil.rmtree(evidence.folder(daemon, "ann/one"))
    reason = refused(daemon)
    assert "000001-000000002 is damaged" in reason
    assert "--version 000001-000000001" in reason
    assert not evidence.database(daemon, "ann/one").exists()
    assert daemon.get("/ann/two/up").status == 200
    assert daemon.stop() == 0
    assert evidence.everything_in(remote, but_owner=True) == before
    daemon.start()
    taken = daemon.cli("restore", "ann/one", "--version", "000001-000000001")
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert daemon.get("/ann/one/count").json["count"] == 1


def test_a_damaged_pointer_is_503_and_stays_as_it_is(start: StartDaemon) -> None:
    daemon = with_history(start, 1)
    pointer = evidence.remote(daemon, "ann/one") / "current.json"
    pointer.write_bytes(b"{}")
    assert "damaged" in refused(daemon)
    assert evidence.rows(evidence.database(daemon, "ann/one")) == 1
    assert pointer.read_bytes() == b"{}"


def test_a_store_that_is_away_is_503_makes_no_empty_database_and_serves_when_it_is_back(start: StartDaemon) -> None:
    daemon = with_history(start, 1)
    shutil.rmtree(evidence.folder(daemon, "ann/one"))
    for instead in (None, b""):  # nothing is there; something else is there
        with evidence.moved_away(evidence.store(daemon), instead):
            reason = refused(daemon)
            assert "the store at" in reason
            assert daemon.get("/bob/count").status == 503, "who is new may not be new"
            for command in ("verify", "doctor"):  # which make no store in its place
                run = daemon.cli(command)
                assert (run.returncode, "there is no store in" in run.stdout + run.stderr) == (1, True), run
            assert not evidence.database(daemon, "ann/one").exists()
            assert not evidence.database(daemon, "bob").exists()
        with evidence.one_life(daemon, "ann/one"):
            served = eventually(lambda: answered(daemon), what="the store's return")
        assert served.json["count"] == 1
        shutil.rmtree(evidence.folder(daemon, "ann/one"))
    assert daemon.reported("tenant starting", tenant="bob") == []


def test_an_empty_folder_in_the_place_of_the_store_is_not_the_store(start: StartDaemon) -> None:
    daemon = with_history(start, 1)
    shutil.rmtree(evidence.folder(daemon, "ann/one"))
    store = evidence.store(daemon)
    store.rename(store.with_name("mounted"))
    store.mkdir()
    assert "the store at" in refused(daemon)
    assert not evidence.database(daemon, "ann/one").exists()


def test_a_store_that_takes_nothing_leaves_running_apps_alone_starts_none_and_gets_all_when_it_can(
    start: StartDaemon,
) -> None:
    daemon = with_history(start, 1)
    assert daemon.post("/ann/one/add").json["count"] == 2
    with evidence.moved_away(evidence.store(daemon) / ".flyatc" / "new", instead=b""):
        assert daemon.post("/ann/one/add").json["count"] == 3
        daemon.until_reported("not saved: the local copy is kept", tenant="ann/one")
        assert daemon.get("/ann/one/count").status == 503, "the store does not say who may write"
    remote = evidence.remote(daemon, "ann/one")
    eventually(lambda: evidence.stored_rows(remote) == 3, 20, "the save, without a visitor")
    assert daemon.stop() == 0


def test_a_full_disk_amid_a_save_loses_nothing(start: StartDaemon) -> None:
    daemon = start(config().replace("interval: 0", "interval: 200ms"))
    remote = evidence.remote(daemon, "ann/one")
    assert daemon.post("/ann/one/add").json["count"] == 1
    eventually(lambda: evidence.pointer(remote) and evidence.stored_rows(remote) == 1, what="the first save")
    before = evidence.pointer(remote)
    with largest_file(daemon, 1 << 20):
        assert daemon.post("/ann/one/grow?mb=4").status == 200
        assert daemon.post("/ann/one/add").json["count"] == 2
        daemon.until_reported("not saved", tenant="ann/one")
        assert evidence.pointer(remote) == before
        assert evidence.stored_rows(remote) == 1
        assert daemon.get("/ann/one/count").json["count"] == 2
        assert not list(evidence.folder(daemon, "ann/one").glob(".flyatc/save-*/*.zst"))
    eventually(lambda: evidence.pointer(remote) != before, what="the save on a disk with room")
    assert daemon.stop() == 0
    assert evidence.stored_rows(remote) == 2


def test_a_full_disk_amid_a_restore_is_503_and_leaves_nothing_half_done(start: StartDaemon) -> None:
    daemon = start(config(idle="200ms"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    assert daemon.post("/ann/one/grow?mb=4").status == 200
    daemon.until_reported("tenant stopped", tenant="ann/one")
    shutil.rmtree(evidence.folder(daemon, "ann/one"))
    with largest_file(daemon, 1 << 20):
        assert "disk" in refused(daemon)
        assert not evidence.database(daemon, "ann/one").exists()
        assert not list(evidence.folder(daemon, "ann/one").glob(".flyatc/restore-*"))
    served = eventually(lambda: answered(daemon), what="the restore on a disk with room")
    assert served.json["count"] == 1


def test_a_local_file_that_is_no_database_is_503_and_stays(start: StartDaemon) -> None:
    daemon = with_history(start, 1)
    evidence.database(daemon, "ann/one").write_bytes(b"something else")
    assert "not a SQLite database" in refused(daemon)
    assert evidence.database(daemon, "ann/one").read_bytes() == b"something else"
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1
