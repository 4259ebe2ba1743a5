"""Fixtures of several files of this lane: litestream's machines, and a store of each kind."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fakes.s3 import Server
from fakes.streams import Streamers
from flyatc.config.schema import Storage
from flyatc.databases.litestream import replication
from flyatc.objects.open_store import store_of
from flyatc.objects.threaded_store import ThreadedStore

MEMORY = Path("/dev/shm")
ROOM = 1 << 30  # bytes


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is room: for hundreds of syncs, where processes die but the machine goes on."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="flyatc-test-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
async def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streamers]:
    """Machines in litestream mode on a folder as the store, whose streams are checked every 0.1 s instead of 1 s."""
    monkeypatch.setattr(replication, "EVERY", 0.1)
    made = Streamers.on_folder(tmp_path)
    yield made
    await made.close()


@pytest.fixture(params=["folder", "moto"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ThreadedStore]:
    if request.param == "folder":
        made = store_of(Storage(url=f"file:{tmp_path / 'store'}"), {})
    else:
        server: Server = request.getfixturevalue("moto_server")
        made = store_of(Storage(url=f"s3://{server.bucket()}/some/where"), server.environ())
    assert made is not None
    await made.open()
    yield made
    made.close()
