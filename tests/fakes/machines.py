"""A machine for the tests of databases: a data folder, a database service, a tenant, a store that fails on demand."""

import contextlib
import io
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, Unpack

from msgspec import structs

from flyatc.config.schema import App, Storage, Tenant
from flyatc.databases.service import DatabaseService
from flyatc.kit.types import Progress
from flyatc.objects.folder import FolderStore
from flyatc.objects.store import ObjectStore, Seen, Stored, StoreUnavailable
from flyatc.observe.log import Log

DATABASE = "app.sqlite3"


class Reported(Log):
    """A log which also writes its events down."""

    def __init__(self, out: BinaryIO) -> None:
        self.reported: list[dict[str, object]] = []
        super().__init__(out)

    def event(self, level: str, message: str, /, **fields: Any) -> None:
        self.reported.append({"level": level, "message": message, **fields})
        super().event(level, message, **fields)


class Machine:
    def __init__(
        self,
        data: Path,
        store: ObjectStore | None,
        databases: Iterable[str],
        seed: str | dict[str, str] | None,
        interval: float,
        keep: int,
        key: str | None = None,
        files: Iterable[str] = (),
        limits: dict[str, int] | None = None,
    ) -> None:
        self.log = Reported(io.BytesIO())
        self.service = DatabaseService(
            store,
            structs.replace(Storage(interval=interval, keep=keep, key=key), **(limits or {})),
            self.log,
            lambda text, tenant: text,
        )
        self.tenant = Tenant(
            user="bellevue",
            name="2025/winter",
            prefix="/bellevue/2025/winter",
            data=data,
            app=App(databases=list(databases), files=list(files), seed=seed),
        )
        self.path = data / DATABASE
        self.storage = data / "storage"

    def events(self, message: str) -> list[dict[str, object]]:
        return [event for event in self.log.reported if event["message"] == message]

    async def session(
        self, *numbers: int, path: Path | None = None, then: Callable[[], object] = lambda: None
    ) -> list[int]:
        """Held, the numbers added, then ``then``, let go. What was in the database before."""
        async with self.service.hold(self.tenant):
            before = rows(path or self.path)
            add(path or self.path, *numbers)
            then()
        return before

    def close(self) -> None:
        self.service.close()
        self.log.close()


def add(path: Path, *numbers: int, wal: bool = False) -> None:
    """As an app: opens, commits, closes."""
    if not numbers:
        return
    with contextlib.closing(sqlite3.connect(path)) as database:
        if wal:
            database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        database.executemany("INSERT INTO t VALUES (?)", [(number,) for number in numbers])
        database.commit()


def rows(path: Path) -> list[int]:
    """[] where there is no database."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT n FROM t ORDER BY n")]


class FailingStore:
    """A real store behind a line that breaks at the n-th call: before it got there, or after it was done.

    ``calls`` writes down what was asked; from ``fail_from`` on (1: the first) ``times`` calls fail."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.calls: list[str] = []
        self.fail_from, self.times, self.after = 0, 0, False

    def fail(self, nth: int = 1, times: int = 1 << 30, *, after: bool = False) -> None:
        self.calls.clear()
        self.fail_from, self.times, self.after = nth, times, after

    def mend(self) -> None:
        self.fail_from = 0

    @property
    def _failing(self) -> bool:
        return bool(self.fail_from) and self.fail_from <= len(self.calls) < self.fail_from + self.times

    def _before(self, call: str, key: str) -> None:
        self.calls.append(f"{call} {key.rpartition('/')[2]}")
        if self._failing and not self.after:
            raise StoreUnavailable("the line is cut")

    def _done(self) -> None:
        if self._failing and self.after:
            raise StoreUnavailable("the line was cut before the answer")

    async def get(self, key: str) -> tuple[bytes, str] | None:
        self._before("get", key)
        found = await self._store.get(key)
        self._done()
        return found

    async def look(self, key: str) -> Seen | None:
        self._before("look", key)
        found = await self._store.look(key)
        self._done()
        return found

    async def put(self, key: str, body: bytes, *, create: bool = False, match: str | None = None) -> str:
        self._before("put", key)
        etag = await self._store.put(key, body, create=create, match=match)
        self._done()
        return etag

    async def head(self, key: str) -> Stored | None:
        self._before("head", key)
        return await self._store.head(key)

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        self._before("list", prefix)
        found = await self._store.list(prefix)
        self._done()
        return found

    @property
    def conditional_deletes(self) -> bool:
        return self._store.conditional_deletes

    async def delete(self, key: str, *, match: str | None = None) -> None:
        self._before("delete", key)
        await self._store.delete(key, match=match)
        self._done()

    async def download(self, key: str, path: Path, progress: Progress) -> None:
        self._before("download", key)
        await self._store.download(key, path, progress)
        self._done()

    async def download_by_full_key(self, key: str, path: Path, progress: Progress) -> None:
        self._before("borrow", key)
        await self._store.download_by_full_key(key, path, progress)
        self._done()

    async def upload(self, key: str, path: Path, *, create: bool = True, progress: Progress) -> str:
        self._before("upload", key)
        etag = await self._store.upload(key, path, create=create, progress=progress)
        self._done()
        return etag


class Options(TypedDict, total=False):
    store: ObjectStore | None
    seed: str | dict[str, str] | None
    interval: float
    keep: int
    key: str | None
    files: Iterable[str]
    limits: dict[str, int]


class Yard:
    """A store in a folder, and machines beside it; all closed at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = FolderStore(root / "store")
        self.failing = FailingStore(self.store)
        self._machines: list[Machine] = []

    async def __aenter__(self) -> "Yard":
        await self.store.open()
        return self

    async def __aexit__(self, *reason: object) -> None:
        for machine in self._machines:
            machine.close()
        self.store.close()

    def machine(self, name: str, databases: Iterable[str] = (DATABASE,), **options: Unpack[Options]) -> Machine:
        """Another process on the data folder ``name``, which is new or was left behind by an earlier one."""
        store = options.get("store", self.failing)
        seed, key = options.get("seed"), options.get("key")
        interval, keep = options.get("interval", 0), options.get("keep", 24)
        files, limits = options.get("files", ()), options.get("limits")
        made = Machine(self.root / name, store, databases, seed, interval, keep, key, files, limits)
        self._machines.append(made)
        return made

    def snapshots(self) -> list[Path]:
        """The versions; what was set aside is not among them."""
        return [path for path in self._packed() if "orphans" not in path.parts]

    def orphans(self) -> list[Path]:
        """Return what was set aside, as far as it has been sent yet."""
        return [path for path in self._packed() if "orphans" in path.parts]

    def _packed(self) -> list[Path]:
        return sorted((self.root / "store").rglob("*.zst"))
