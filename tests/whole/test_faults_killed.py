"""The daemon is SIGKILLed, at each point of a start, a save and a restore. The next start is sound.

What an app has acknowledged is never lost, no process is left, and what the store has is whole: asked after each kill.
The points are facts on the disk, looked for all the time: as soon as one is seen, the daemon is dead.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, Daemon, config, eventually

TENANT = "ann/one"
MEGABYTES = 12  # so that each step of a save takes long enough to be met

Point = Callable[[Daemon], object]


def work(daemon: Daemon, pattern: str) -> list[Path]:
    return list(evidence.folder(daemon, TENANT).glob(f".flyatc/{pattern}"))


def record(daemon: Daemon) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return (evidence.folder(daemon, TENANT) / ".flyatc" / "databases.json").read_bytes()
    return b""


def uploaded(daemon: Daemon) -> bool:
    """A snapshot is there, and the pointer does not know of it yet."""
    remote = evidence.remote(daemon, TENANT)
    known = evidence.pointer(remote).get("key", "")
    return any(path.name > known for path in evidence.snapshots(remote))


def kill_at(daemon: Daemon, point: Point, within: float = 15, again: Callable[[], None] | None = None) -> None:
    """``again``: has the daemon pass the point once more, each second; some last a few milliseconds, which a busy
    machine may not give to this process."""
    deadline, repeat = time.monotonic() + within * SLOWNESS, time.monotonic() + 1 * SLOWNESS
    while not point(daemon):
        assert time.monotonic() < deadline, "the point was not met"
        if again is not None and time.monotonic() > repeat:
            again()
            repeat = time.monotonic() + 1 * SLOWNESS
    daemon.kill()


def visit(daemon: Daemon) -> None:
    """A visitor who is not sorry when the daemon dies."""

    def come() -> None:
        with contextlib.suppress(OSError):
            daemon.get(f"/{TENANT}/count")

    threading.Thread(target=come).start()


def next_start_is_sound(daemon: Daemon, acknowledged: int) -> None:
    """After a kill: starts, saves without a visitor what is unsaved, counts on."""
    daemon.start()
    assert evidence.processes_of(daemon.folder) == [], "ended before it listened"
    assert daemon.get(f"/{TENANT}/count").json["count"] == acknowledged
    assert daemon.reported("unexpected error") == []


def end_is_sound(daemon: Daemon, acknowledged: int) -> None:
    assert daemon.stop() == 0
    assert evidence.processes_of(daemon.folder) == []
    assert evidence.rows(evidence.database(daemon, TENANT)) == acknowledged
    assert evidence.stored_rows(evidence.remote(daemon, TENANT)) == acknowledged
    assert work(daemon, "orphans/*") == [], "the local copy was the newer one all the time"
    assert work(daemon, "save-*") == work(daemon, "restore-*") == []


SAVE: dict[str, Point] = {
    "it has begun": lambda d: work(d, "save-*"),
    "the copy is there": lambda d: work(d, "save-*/copy"),
    "it is being compressed": lambda d: work(d, "save-*/copy.zst"),
    "it is being uploaded": lambda d: list(d.folder.glob("store/.flyatc/new/*")),
    "it is uploaded": uploaded,
    "it is on record as pending": lambda d: b'"pending": [\n' in record(d),
}


def test_killed_at_each_point_of_a_save_while_the_app_runs(start: StartDaemon) -> None:
    daemon = start(config().replace("interval: 0", "interval: 100ms"))
    remote = evidence.remote(daemon, TENANT)
    daemon.post(f"/{TENANT}/grow?mb={MEGABYTES}")
    eventually(lambda: evidence.pointer(remote), what="the first save")
    count = 0

    def add() -> None:
        nonlocal count
        count += 1
        assert daemon.post(f"/{TENANT}/add").json["count"] == count

    for point in [*SAVE.values(), lambda d: True]:
        add()
        kill_at(daemon, point, again=add)
        assert not evidence.pointer(remote) or evidence.stored_rows(remote) <= count
        next_start_is_sound(daemon, count)
    end_is_sound(daemon, count)


def test_killed_as_soon_as_a_save_is_published(start: StartDaemon) -> None:
    daemon = start(config().replace("interval: 0", "interval: 100ms"))
    remote = evidence.remote(daemon, TENANT)
    for count in range(1, 5):
        before = evidence.pointer(remote)
        assert daemon.post(f"/{TENANT}/add").json["count"] == count
        kill_at(daemon, lambda d: evidence.pointer(remote) != before)  # noqa: B023
        next_start_is_sound(daemon, count)
    end_is_sound(daemon, count)


def test_killed_at_each_point_of_the_last_save_and_saved_without_a_client(start: StartDaemon) -> None:
    daemon = start(config(idle="100ms"))
    remote = evidence.remote(daemon, TENANT)
    assert daemon.post(f"/{TENANT}/grow?mb={MEGABYTES}").status == 200
    count = 0
    starts = 0

    def add() -> None:
        nonlocal count, starts
        count, starts = count + 1, starts + 1
        assert daemon.post(f"/{TENANT}/add").json["count"] == count

    for point in SAVE.values():
        add()
        kill_at(daemon, point, again=add)
        daemon.start()
        eventually(lambda: evidence.pointer(remote) and evidence.stored_rows(remote) == count, what="the save")
    end_is_sound(daemon, count)
    assert len(daemon.reported("tenant starting")) == starts


RESTORE: dict[str, Point] = {
    "it has begun": lambda d: work(d, "restore-*"),
    "it is being downloaded": lambda d: work(d, "restore-*/*/*"),
    "it is being unpacked": lambda d: len(work(d, "restore-*/*/*")) > 1,
    "it is in place": lambda d: evidence.database(d, TENANT).exists(),
    "it is on record": record,
}


def test_killed_at_each_point_of_a_restore(start: StartDaemon) -> None:
    daemon = start(config())
    assert daemon.post(f"/{TENANT}/grow?mb={MEGABYTES}").status == 200
    assert daemon.post(f"/{TENANT}/add").json["count"] == 1
    assert daemon.stop() == 0
    whole = evidence.database(daemon, TENANT).stat().st_size
    for name, point in RESTORE.items():
        shutil.rmtree(evidence.folder(daemon, TENANT))
        daemon.start()
        visit(daemon)
        kill_at(daemon, point)
        local = evidence.database(daemon, TENANT)
        assert not local.exists() or local.stat().st_size == whole, f"a part of it under the final name when {name}"
        next_start_is_sound(daemon, 1)
        assert daemon.stop() == 0
        assert evidence.stored_rows(evidence.remote(daemon, TENANT)) == 1
        assert work(daemon, "restore-*") == []


START: dict[str, Point] = {
    "the app is on record": lambda d: d.children(),
    "the app listens": lambda d: d.reported("listening on "),
    "the app is ready": lambda d: d.reported("tenant ready"),
}


def test_killed_at_each_point_of_a_start(start: StartDaemon) -> None:
    daemon = start(config(flags=("--ready-after", "0.2")))
    assert daemon.post(f"/{TENANT}/add").json["count"] == 1
    assert daemon.stop() == 0
    for point in START.values():
        daemon.log_file.unlink()
        daemon.start()
        visit(daemon)
        kill_at(daemon, point)
        next_start_is_sound(daemon, 1)
        end_is_sound(daemon, 1)


def test_killed_beside_an_app_that_ignores_sigterm_and_has_a_child_with_the_database_open(start: StartDaemon) -> None:
    daemon = start(
        config(flags=("--ignore-term", "--fork-child", "--child-holds-db")).replace(
            "stop_grace: 2s", "stop_grace: 100ms"
        )
    )
    assert daemon.post(f"/{TENANT}/add").json["count"] == 1
    assert len(evidence.processes_of(daemon.folder)) == 2
    daemon.kill_with_supervisor()
    next_start_is_sound(daemon, 1)
    assert daemon.reported("ended an app of an earlier run", needed="SIGKILL")
    end_is_sound(daemon, 1)


def test_unsaved_data_of_a_user_by_pattern_are_saved_and_of_a_removed_one_reported(
    start: StartDaemon,
) -> None:
    pattern = "'*': {match: '[0-9]+'}"
    daemon = start(config(users=f"users: {{ann: {{}}, {pattern}}}"))
    assert daemon.post("/42/add").json["count"] == 1
    assert daemon.post("/ann/add").json["count"] == 1
    daemon.kill()
    daemon.write(config(users=f"users: {{bob: {{}}, {pattern}}}"))
    daemon.start()
    eventually(lambda: evidence.pointer(evidence.remote(daemon, "42")), what="the save of 42")
    assert evidence.stored_rows(evidence.remote(daemon, "42")) == 1
    daemon.until_reported("unsaved data of a tenant that is not configured", tenant="ann")
    assert evidence.pointer(evidence.remote(daemon, "ann")) == {}
    assert daemon.stop() == 0
    assert evidence.rows(evidence.database(daemon, "ann")) == 1
