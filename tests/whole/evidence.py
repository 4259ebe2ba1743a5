"""Helpers for what can be seen from outside: processes in /proc, databases on the disk, snapshots in the store."""

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from whole.daemon import Daemon, eventually


def alive(pid: int) -> bool:
    """A zombie is not."""
    return _stat(pid)[0] not in ("", "Z")


def zombies(parent: int) -> list[int]:
    return [pid for pid in _pids() if _stat(pid) == ("Z", parent)]


def running_children(parent: int) -> list[int]:
    return [pid for pid in _pids() if _stat(pid)[1] == parent and alive(pid)]


def runs(daemon: Daemon) -> list[int]:
    """The roots of its runs: its supervisor's children."""
    return [root for supervisor in running_children(daemon.pid) for root in running_children(supervisor)]


def processes_of(folder: Path) -> list[int]:
    """Processes with this folder in their environment: the apps of a daemon, whatever their parent is by now."""
    mark, found = f"={folder}/".encode(), []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes() and alive(pid):
                found.append(pid)
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are all that is wanted


def _stat(pid: int) -> tuple[str, int]:
    """(state, parent); ("", 0): there is no such process. proc_pid_stat(5)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "", 0
    return words[0].decode(), int(words[1])


class Most:
    """The largest number that ``count`` gave, by a thread which asks all the time."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.seen, self._count = 0, count
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.003):
            self.seen = max(self.seen, self._count())

    def __enter__(self) -> "Most":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def one_life(daemon: Daemon, tenant: str) -> Iterator[None]:
    """Return what is asked inside starts the tenant; on return it was idle, saved and stopped."""
    before = len(daemon.reported("tenant stopped", tenant=tenant))
    yield
    eventually(lambda: len(daemon.reported("tenant stopped", tenant=tenant)) > before, what=f"the stop of {tenant}")


# --- databases ---


def database(daemon: Daemon, tenant: str, name: str = "app.sqlite3") -> Path:
    return folder(daemon, tenant) / name


def folder(daemon: Daemon, tenant: str) -> Path:
    user, _, rest = tenant.partition("/")
    return daemon.folder / "data" / "tenants" / user / (rest.replace("/", "~") or "~")


def rows(path: Path) -> int:
    """Of a database that no one has open. Fails unless it is sound."""
    with contextlib.closing(sqlite3.connect(path)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(opened.execute("SELECT count(*) FROM rows").fetchone()[0])


# --- the store ---


def remote(daemon: Daemon, tenant: str, name: str = "app.sqlite3") -> Path:
    user, _, rest = tenant.partition("/")
    return store(daemon) / "users" / user / (rest.replace("/", "~") or "~") / name


def store(daemon: Daemon) -> Path:
    return daemon.folder / "store"


def pointer(remote: Path) -> dict[str, Any]:
    """Its current.json; {}: there is none, or nothing was saved yet."""
    try:
        found = dict(json.loads((remote / "current.json").read_bytes()))
    except FileNotFoundError:
        return {}
    return found if "key" in found else {}


def snapshots(remote: Path) -> list[Path]:
    return sorted(remote.glob("*.zst"))


def stored_rows(remote: Path) -> int:
    """Of the current snapshot, which is verified: length, checksum, PRAGMA integrity_check."""
    current = pointer(remote)
    body = zstandard.ZstdDecompressor().stream_reader((remote / current["key"]).read_bytes()).read()
    assert len(body) == current["size"]
    assert hashlib.sha256(body).hexdigest() == current["sha256"]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "snapshot.sqlite3")
        path.write_bytes(body)
        return rows(path)


def everything_in(folder: Path, *, but_owner: bool = False) -> dict[str, bytes]:
    """Each file with its content; ``but_owner``: without the stamps of who took it over."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    if but_owner and "current.json" in found:
        found["current.json"] = json.dumps(json.loads(found["current.json"]) | {"owner": 0}).encode()
    return found


def grow_old(daemon: Daemon, store: Path | None = None) -> None:
    """As if its machine had given no sign for long: its session in the store is an hour old."""
    for session in ((store or daemon.folder / "store") / "machines").glob("*.json"):
        if json.loads(session.read_bytes())["machine"] == machine(daemon):
            os.utime(session, (time.time() - 3600,) * 2)


def machine(daemon: Daemon) -> str:
    """Its name."""
    return str(json.loads((daemon.folder / "data" / ".flyatc" / "machine.json").read_bytes())["machine"])


@contextlib.contextmanager
def moved_away(path: Path, instead: bytes | None = None) -> Iterator[None]:
    """Nothing stands there meanwhile, or a file with these bytes."""
    aside = path.with_name(f"{path.name}.away")
    path.rename(aside)
    if instead is not None:
        path.write_bytes(instead)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)
