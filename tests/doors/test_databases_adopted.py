"""A database which another program kept in the store as one whole object (storage.key)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import Yard, add, rows
from fakes.owners import FakeLease, previous
from fakes.s3 import Server
from fakes.streams import Streamers, after
from flyatc.config.check_sections import bucket_of
from flyatc.config.schema import Storage
from flyatc.kit.errors import RestoreRefused
from flyatc.objects.s3 import S3Store

KEY = "/customer/{user}/db.sqlite3"  # the js-sqlite-in-tigris layout, slash and all
THEIRS = "customer/bellevue/db.sqlite3"  # in a folder


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


def theirs(yard: Yard, *numbers: int) -> Path:
    path = yard.root / "store" / THEIRS
    path.parent.mkdir(parents=True, exist_ok=True)
    add(path, *numbers)
    return path


async def test_it_is_taken_over_once_and_stays_as_it_was(yard: Yard) -> None:
    before = theirs(yard, 1, 2).read_bytes()
    a, b = yard.machine("a", key=KEY), yard.machine("b", key=KEY)
    assert await a.session(3) == [1, 2]
    assert (yard.root / "store" / THEIRS).read_bytes() == before
    assert [event["database"] for event in a.events("adopted")] == ["app.sqlite3"]
    assert await b.session() == [1, 2, 3], "from now on there is a version of ours"
    assert b.events("adopted") == []


async def test_where_there_is_none_the_database_is_new(yard: Yard) -> None:
    a = yard.machine("a", key=KEY)
    assert await a.session(1) == []
    assert a.events("adopted") == []


async def test_what_is_here_is_not_replaced_by_it(yard: Yard) -> None:
    a = yard.machine("a", key=KEY)
    a.path.parent.mkdir(parents=True)
    add(a.path, 7)
    theirs(yard, 1)
    assert await a.session() == [7]


@pytest.mark.parametrize("content", [b"", b"not a database"])
async def test_what_is_no_database_starts_nothing(yard: Yard, content: bytes) -> None:
    theirs(yard, 1).write_bytes(content)
    a = yard.machine("a", key=KEY)
    with pytest.raises(RestoreRefused, match="is not a SQLite database"):
        await a.session()
    assert not a.path.exists()


async def test_a_damaged_one_starts_nothing(yard: Yard) -> None:
    path = theirs(yard, *range(2000))
    body = path.read_bytes()
    path.write_bytes(body[:4096] + b"\xff" * 4096 + body[8192:])
    with pytest.raises(RestoreRefused, match="is damaged"):
        await yard.machine("a", key=KEY).session()


async def test_a_store_that_does_not_say_starts_nothing(yard: Yard) -> None:
    theirs(yard, 1)
    a = yard.machine("a", key=KEY)
    yard.failing.fail(nth=3)  # after the pointer and the list
    with pytest.raises(RestoreRefused, match="the line is cut"):
        await a.session()
    assert not a.path.exists()


async def test_the_key_is_taken_literally_in_a_bucket_whatever_our_prefix(
    yard: Yard, moto_server: Server, tmp_path: Path
) -> None:
    add(tmp_path / "theirs", 1)
    bucket = moto_server.bucket()
    moto_server.client.put_object(
        Bucket=bucket, Key="/customer/bellevue/db.sqlite3", Body=(tmp_path / "theirs").read_bytes()
    )
    environ = moto_server.environ(bucket)
    store = S3Store(bucket_of(f"s3://{bucket}/flyatc", environ), environ)
    await store.open()
    try:
        assert await yard.machine("a", store=store, key=KEY).session(2) == [1]
        assert await yard.machine("b", store=store, key=KEY).session() == [1, 2]
    finally:
        store.close()
    keys = [found["Key"] for found in moto_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert "/customer/bellevue/db.sqlite3" in keys
    assert all(key.startswith("flyatc/") for key in keys if "customer" not in key)


async def test_it_is_taken_over_in_litestream_mode_as_well(tmp_path: Path) -> None:
    (tmp_path / "store" / THEIRS).parent.mkdir(parents=True)
    add(tmp_path / "store" / THEIRS, 1, 2)
    machines = Streamers(tmp_path, Storage(mode="litestream", url=f"file:{tmp_path / 'store'}", key=KEY), {})
    try:
        one = FakeLease(1, previous(0, clean=True))
        assert await (await machines.machine("a")).session(one) == [1, 2]
        assert await (await machines.machine("b")).session(after(one)) == [1, 2]
    finally:
        await machines.close()
    assert rows(tmp_path / "store" / THEIRS) == [1, 2], "and it stays as it was"
