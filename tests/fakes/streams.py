"""A machine in litestream mode, with the real litestream: a data folder, a tenant, a store which may be anywhere."""

import contextlib
import io
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fakes.machines import DATABASE, FailingStore, Reported
from fakes.owners import FakeLease, previous
from flyatc.config.schema import App, Storage, Tenant
from flyatc.databases import local_files, restore
from flyatc.databases.litestream.backend import LitestreamBackend
from flyatc.databases.litestream.daemon import SETTINGS, Run, Running
from flyatc.databases.litestream.replication import Replication
from flyatc.databases.local_record import Record
from flyatc.databases.workers import Workers
from flyatc.kit.types import silent
from flyatc.objects.open_store import store_of
from flyatc.objects.threaded_store import ThreadedStore
from flyatc.process import helper_program
from flyatc.process.child_records import Records


class Streamer:
    def __init__(
        self, data: Path, store: ThreadedStore, storage: Storage, environ: Mapping[str, str], seed: Path | None
    ) -> None:
        self.after_programs: Callable[[], object] = lambda: None  # called when one has ended
        self.data, self.store, self.seed = data, store, seed
        self.failing = FailingStore(store)
        self.log = Reported(io.BytesIO())
        self.tools = Workers(storage.keep, self.log, storage.key)
        self._records = Records(data)
        self.door = LitestreamBackend(self.failing, storage, environ, data / ".flyatc", self._run, self.log, self.tools)
        own = data / "tenants" / "bellevue" / "2025~winter"
        self.tenant = Tenant(
            user="bellevue",
            name="2025/winter",
            prefix="/bellevue/2025/winter",
            data=own,
            app=App(databases=[DATABASE]),
        )
        self.path = own / DATABASE

    @contextlib.asynccontextmanager
    async def _run(self, *call: Any) -> AsyncIterator[Running]:
        hold: Run = partial(helper_program.hold, records=self._records)
        async with hold(*call) as running:
            yield running
        self.after_programs()

    @contextlib.asynccontextmanager
    async def hold(self, owned: FakeLease) -> AsyncIterator[Replication]:
        record = await self.prepared()
        with restore.refusing(self.tenant):
            held = await self.door.take(self.tenant, record, owned, lambda name: self.seed)
        try:
            yield held
        finally:
            await held.leave()

    async def session(self, owned: FakeLease, *numbers: int) -> list[int]:
        """Held, the numbers added by an app which is gone at the end, let go. What was in the database before."""
        async with self.hold(owned):
            app = Writer(self.path)
            before = app.rows()
            app.add(*numbers)
            app.close()
        return before

    async def cut(self, owned: FakeLease, *numbers: int) -> None:
        """As ``session``, each number on its way by itself; then the machine is lost, before it can save."""
        async with self.hold(owned) as held:
            app = Writer(self.path)
            for number in numbers:
                app.add(number, filling=9000)
                await held.save(silent)
            app.close()
            owned.expire(lost=True)

    async def prepared(self) -> Record:
        local_files.prepare(self.tenant.data / ".flyatc")
        return await Record.read(self.tenant.data / ".flyatc", self.tools.quick)

    def events(self, message: str) -> list[dict[str, object]]:
        return [event for event in self.log.reported if event["message"] == message]

    async def close(self) -> None:
        await self.door.close()
        self.tools.close()
        self.store.close()
        self.log.close()


class Writer:
    """An app with its database open, in WAL mode as Rails has it."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA busy_timeout=5000")
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER, filling BLOB)")

    def add(self, *numbers: int, filling: int = 0) -> None:
        """Each a transaction of its own."""
        for number in numbers:
            self._database.execute("INSERT INTO t VALUES (?, randomblob(?))", (number, filling))

    def rows(self) -> list[int]:
        return [row[0] for row in self._database.execute("SELECT n FROM t ORDER BY n")]

    def close(self) -> None:
        self._database.close()


class Streamers:
    """Machines on one store; all closed at the end."""

    def __init__(self, root: Path, storage: Storage, environ: Mapping[str, str]) -> None:
        self.root, self.storage, self.environ = root, storage, environ
        self._made: list[Streamer] = []

    @classmethod
    def on_folder(cls, root: Path) -> "Streamers":
        return cls(root, Storage(mode="litestream", url=f"file:{root / 'store'}"), {})

    async def machine(
        self,
        name: str,
        *,
        seed: Path | None = None,
        storage: Storage | None = None,
        litestreams: Mapping[str, str] = {},
    ) -> Streamer:
        """Another machine, or an earlier one again, on the data folder ``name``. ``litestreams``: the environment of
        litestream, where it differs from that of the store."""
        storage, environ = storage or self.storage, {**self.environ, **litestreams}
        store = store_of(storage, self.environ)
        assert store is not None
        await store.open()
        self._made.append(Streamer(self.root / name, store, storage, environ, seed))
        return self._made[-1]

    async def close(self) -> None:
        for machine in self._made:
            await machine.close()

    def stored(self) -> Path:
        """Return what the store, a folder, has of the database."""
        (found,) = (self.root / "store").glob(f"users/*/*/{DATABASE}")
        return found

    def ltx(self, line: str = "*") -> list[Path]:
        """litestream's files in a store which is a folder."""
        return sorted((self.root / "store").glob(f"users/*/*/*/{line}/**/*.ltx"))


def after(owned: FakeLease, *, clean: bool = True) -> FakeLease:
    """The next owner: of a user who was released, or robbed of it."""
    epoch = owned.epoch + 1
    return FakeLease(epoch, previous(owned.epoch, clean), line=owned.line_epoch if clean else epoch)


def litestream_of(data: Path) -> int:
    """Pid of the litestream process with this data folder's settings."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and str(data / ".flyatc" / SETTINGS).encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise AssertionError("litestream does not run")
