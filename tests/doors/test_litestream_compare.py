"""The store's copy of a running tenant is compared with its local file, at the same position of both."""

import contextlib
import sqlite3
from pathlib import Path

from fakes.owners import FakeLease, previous
from fakes.streams import Streamers, Writer
from fakes.waiting import eventually
from flyatc.databases import sqlite

FIRST = previous(0, clean=True)


def restored(machine_path: Path, place: Path) -> Path:
    place.mkdir()
    sqlite.copy(machine_path, place / "database", lambda done, total: None, keep_wal=True)
    return place / "database"


async def test_a_copy_which_is_whole_and_not_what_is_here_is_found(machines: Streamers, tmp_path: Path) -> None:
    """As litestream may make it: it passes every check, and a row is missing."""
    a = await machines.machine("a")
    async with a.hold(FakeLease(1, FIRST)) as held:
        app = Writer(a.path)
        app.add(1, 2, 3)
        await eventually(lambda: held.streams[0].txid and not held.unsaved)
        same, other = restored(a.path, tmp_path / "same"), restored(a.path, tmp_path / "other")
        with contextlib.closing(sqlite3.connect(other)) as database:
            database.execute("DELETE FROM t WHERE n = 2")
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await eventually(lambda: not held.unsaved)
        stream = held.streams[0].stream
        assert stream is not None
        version = str(stream.position)
        assert await held.compare(a.path.name, version, same) is None
        await eventually(lambda: not held.unsaved)
        found = await held.compare(a.path.name, version, other)
        assert found is not None
        assert "not as in the local database" in found
        await eventually(lambda: not held.unsaved)
        (other.parent / "local").unlink()
        assert await held.compare(a.path.name, "e000001:999", other) is None, "that is another position"
        app.add(4)
        assert await held.compare(a.path.name, version, other) is None, "the app has written since"
        app.close()
