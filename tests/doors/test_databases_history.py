"""The history of a database, going back in it, and damaged snapshots."""

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from fakes.machines import DATABASE, Yard, add, rows
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.kit.types import silent

ADDRESS = "bellevue/2025/winter"


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def test_as_many_versions_are_kept_as_were_asked_for_newest_first(yard: Yard) -> None:
    a = yard.machine("a", keep=3)
    for number in range(1, 6):
        await a.session(number)
    found = await a.service.history(a.tenant)
    assert [version.id[-1] for version in found] == ["5", "4", "3"]
    assert [version.current for version in found] == [True, False, False]
    assert [path.stat().st_size for path in yard.snapshots()] == [v.compressed for v in reversed(found)]
    assert found[0].size == a.path.stat().st_size
    assert found[0].saved > found[1].saved > found[2].saved
    assert len(yard.snapshots()) == 3


async def test_history_asks_for_a_database_that_there_is(yard: Yard) -> None:
    a = yard.machine("a")
    assert await a.service.history(a.tenant) == []
    with pytest.raises(RestoreRefused, match="has no database 'x'; it has app"):
        await a.service.history(a.tenant, "x")
    yard.failing.fail()
    with pytest.raises(RestoreRefused, match="the line is cut"):
        await a.service.history(a.tenant)


async def test_a_version_chosen_goes_on_top_of_history(yard: Yard) -> None:
    a = yard.machine("a")
    for number in (1, 2, 3):
        await a.session(number)
    await a.service.restore(a.tenant, DATABASE, "000001-000000001", silent)
    assert rows(a.path) == [1]
    assert [version.id[-1] for version in await a.service.history(a.tenant)] == ["4", "3", "2", "1"]
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2, 3]
    assert await yard.machine("b").session(4) == [1]
    assert await a.service.unsaved([a.tenant]) == []


async def test_the_current_version_takes_the_place_of_local_changes(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    add(a.path, 2)
    await a.service.restore(a.tenant, None, None, silent)
    assert rows(a.path) == [1]
    assert len(await a.service.history(a.tenant)) == 1
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2]


@pytest.mark.parametrize("version", ["000001-000000009", "../current", "x"])
async def test_a_version_that_there_is_not_changes_nothing(yard: Yard, version: str) -> None:
    a = yard.machine("a")
    await a.session(1)
    with pytest.raises(RestoreRefused, match="has no version"):
        await a.service.restore(a.tenant, DATABASE, version, silent)
    assert await a.session() == [1]
    assert await a.service.orphans(a.tenant) == []


async def test_a_version_is_of_one_database(yard: Yard) -> None:
    a = yard.machine("a", ["one.db", "two.db"])
    with pytest.raises(RestoreRefused, match="a version is of one database: name it"):
        await a.service.restore(a.tenant, None, "000001-000000001", silent)
    with pytest.raises(RestoreRefused, match="no current version"):
        await a.service.restore(a.tenant, None, None, silent)


async def test_a_restore_whose_save_fails_is_saved_at_the_next_hold(yard: Yard) -> None:
    a = yard.machine("a")
    for number in (1, 2):
        await a.session(number)
    yard.failing.fail(5)
    with pytest.raises(SaveFailed):
        await a.service.restore(a.tenant, DATABASE, "000001-000000001", silent)
    yard.failing.mend()
    later = yard.machine("a")
    assert await later.service.unsaved([later.tenant]) == [later.tenant]
    assert await later.session() == [1]
    assert await yard.machine("b").session() == [1]


def truncated(body: bytes) -> bytes:
    return body[: len(body) // 2]


def flipped(body: bytes) -> bytes:
    return body[:60] + bytes([body[60] ^ 0x10]) + body[61:]


def emptied(body: bytes) -> bytes:
    return b""


def garbled(body: bytes) -> bytes:
    return b"x" * len(body)


def longer(body: bytes) -> bytes:
    return body + body


@pytest.mark.parametrize("damage", [truncated, flipped, emptied, garbled, longer, None])
async def test_a_damaged_snapshot_refuses_and_names_the_one_before(
    yard: Yard, damage: Callable[[bytes], bytes] | None
) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await a.session(*range(500))
    await a.session(1000)
    newest = yard.snapshots()[-1]
    if damage is None:
        newest.unlink()
    else:
        newest.write_bytes(damage(newest.read_bytes()))
    advice = rf"flyatc restore {ADDRESS} app\.sqlite3 --version 000001-000000001$"
    with pytest.raises(RestoreRefused, match=rf"000001-000000002 is damaged: .*Nothing was overwritten.*{advice}"):
        await b.session()
    assert not b.path.exists()
    await b.service.restore(b.tenant, DATABASE, "000001-000000001", silent)
    assert await yard.machine("c").session() == list(range(500))


async def test_a_snapshot_swapped_for_another_good_one_is_noticed(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    await a.session(2)
    first, second = yard.snapshots()
    second.write_bytes(first.read_bytes())
    with pytest.raises(RestoreRefused, match="sha256 differs"):
        await yard.machine("b").session()


@pytest.mark.parametrize("body", [b"", b"{}", b"\0", None])
async def test_a_damaged_pointer_refuses_until_it_is_moved_away_and_a_version_chosen(
    yard: Yard, body: bytes | None
) -> None:
    await yard.machine("a").session(1)
    pointer = yard.snapshots()[0].with_name("current.json")
    b = yard.machine("b")
    if body is not None:
        pointer.write_bytes(body)
        with pytest.raises(RestoreRefused, match=r"current\.json in the store is damaged"):
            await b.session()
    pointer.unlink()
    with pytest.raises(RestoreRefused, match=r"has snapshots but no current\.json.*--version 000001-000000001"):
        await b.session()
    assert (await b.service.history(b.tenant))[0].size is None
    await b.service.restore(b.tenant, DATABASE, "000001-000000001", silent)
    assert await yard.machine("c").session() == [1]


async def test_a_local_file_that_is_no_database_refuses(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(1)
    a.path.write_bytes(b"this is not what was here")
    with pytest.raises(RestoreRefused, match="not a SQLite database: move it away"):
        await a.session()
    assert a.path.read_bytes() == b"this is not what was here"


def damage_a_page(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[8192:8300] = b"\xff" * 108
    path.write_bytes(body)


async def test_a_copy_damaged_by_an_unclean_end_refuses_and_is_not_overwritten(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(*range(3000))
    record = yard.root / "a" / ".flyatc" / "databases.json"
    reported = json.loads(record.read_bytes())
    reported["databases"][DATABASE]["in_use"] = True
    record.write_text(json.dumps(reported))
    damage_a_page(a.path)
    body = a.path.read_bytes()
    with pytest.raises(RestoreRefused, match=rf"was not closed cleanly and is damaged.*flyatc restore {ADDRESS}"):
        await a.session()
    assert a.path.read_bytes() == body
    await a.service.restore(a.tenant, None, None, silent)
    assert await a.session() == list(range(3000))


async def test_a_damaged_database_is_not_saved_over_a_good_one(yard: Yard) -> None:
    a = yard.machine("a")
    await a.session(*range(3000))
    with pytest.raises(SaveFailed, match=r"quick_check|malformed"):
        await a.session(then=partial(damage_a_page, a.path))
    assert await yard.machine("b").session() == list(range(3000))
