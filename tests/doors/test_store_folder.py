"""A folder as a store: several processes, and the ways in which a folder can be away."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyatc.kit.types import silent
from flyatc.objects.folder import FolderStore
from flyatc.objects.store import StoreUnavailable

RACER = """
import asyncio, json, sys
from pathlib import Path
from flyatc.objects.folder import FolderStore
from flyatc.objects.store import ConditionFailed

async def main(root, me):
    store = FolderStore(Path(root))
    await store.open()
    created, swapped = [], 0
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(40):
        try:
            await store.put(f"created/{turn}", me.encode(), create=True)
            created.append(turn)
        except ConditionFailed:
            pass
    while swapped < 40:
        body, etag = await store.get("counter")
        try:
            await store.put("counter", str(int(body) + 1).encode(), match=etag)
            swapped += 1
        except ConditionFailed:
            pass
    store.close()
    print(json.dumps(created), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    made = FolderStore(tmp_path / "store")
    await made.open()
    yield made
    made.close()


async def test_conditions_hold_between_processes(store: FolderStore, tmp_path: Path) -> None:
    await store.put("counter", b"0")
    pipe = asyncio.subprocess.PIPE
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", RACER, str(tmp_path / "store"), name, stdin=pipe, stdout=pipe
        )
        for name in ("a", "b")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))
    first, second = (set(json.loads(output)) for output, _ in outputs)
    assert first & second == set()
    assert first | second == set(range(40))
    found = await store.get("counter")
    assert found is not None
    assert found[0] == b"80"


async def test_an_age_is_taken_by_the_clock_which_stamps_the_files(store: FolderStore, tmp_path: Path) -> None:
    await store.put("a", b"one")
    written = (tmp_path / "store" / "a").stat().st_mtime
    os.utime(tmp_path / "store" / "a", (written - 1000, written - 1000))
    old = await store.look("a")
    assert old is not None
    assert 1000 <= old.age < 1060
    os.utime(tmp_path / "store" / "a", (written + 1000, written + 1000))
    ahead = await store.look("a")
    assert ahead is not None
    assert ahead.age == 0


async def test_a_store_which_has_vanished_is_unknown_not_empty(store: FolderStore, tmp_path: Path) -> None:
    await store.put("a", b"one")
    shutil.rmtree(tmp_path / "store")
    await everything_is_unknown(store, tmp_path)
    assert not (tmp_path / "store").exists()


async def test_an_empty_mount_point_is_unknown_not_empty(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "unmounted")
    (tmp_path / "store").mkdir()
    await everything_is_unknown(store, tmp_path)
    assert list((tmp_path / "store").iterdir()) == []


async def test_what_another_program_has_written_where_the_store_is_unmounted_is_not_in_the_store(
    store: FolderStore, tmp_path: Path
) -> None:
    (tmp_path / "store").rename(tmp_path / "unmounted")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"by litestream, for example")
    await everything_is_unknown(store, tmp_path)


async def test_another_store_in_its_place_is_unknown(store: FolderStore, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store")
    other = FolderStore(tmp_path / "store")
    await other.open()
    await other.put("a", b"of another store")
    other.close()
    await everything_is_unknown(store, tmp_path)


async def everything_is_unknown(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for attempt in (
        store.get("a"),
        store.look("a"),
        store.head("a"),
        store.list("users/"),
        store.put("a", b"two"),
        store.put("a", b"two", create=True),
        store.delete("a"),
        store.download("a", tmp_path / "copy", silent),
        store.upload("b", tmp_path / "file", progress=silent),
    ):
        with pytest.raises(StoreUnavailable):
            await attempt


async def test_a_file_where_a_folder_should_be_is_unknown(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "store" / "users").write_bytes(b"")
    for attempt in (store.get("users/a"), store.head("users/a"), store.put("users/a", b""), store.list("users/a/")):
        with pytest.raises(StoreUnavailable):
            await attempt


async def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FolderStore(tmp_path / "file" / "store")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.open()
    store.close()


async def test_a_local_disk_that_fails_is_not_the_stores_fault(store: FolderStore, tmp_path: Path) -> None:
    await store.put("a", b"one")
    with pytest.raises(FileNotFoundError):
        await store.download("a", tmp_path / "nowhere" / "copy", silent)


async def test_nothing_half_done_is_left_behind(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await store.upload("a", tmp_path / "missing", progress=silent)
    await store.put("a", b"one")
    assert list((tmp_path / "store" / ".flyatc" / "new").iterdir()) == []
    assert await store.list("checks/") == ()
