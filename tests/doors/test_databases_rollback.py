"""Going back to a time, and restoring orphaned copies."""

from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import pytest

from fakes.machines import DATABASE, Yard, add, rows
from flyatc.databases import orphaned_copies
from flyatc.databases.decisions.version_choice import Moment, OrphanChoice
from flyatc.kit.errors import RestoreRefused
from flyatc.kit.types import silent


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def test_a_moment_brings_the_newest_version_of_then_on_top_of_history(yard: Yard) -> None:
    a = yard.machine("a")
    for number in (1, 2, 3):
        await a.session(number)
    two = (await a.service.history(a.tenant))[1].saved
    await a.service.restore(a.tenant, None, Moment(two + 0.0001), silent)
    assert rows(a.path) == [1, 2]
    assert [version.id[-1] for version in await a.service.history(a.tenant)] == ["4", "3", "2", "1"]
    [event] = [one for one in a.events("restored") if "reason" in one]
    assert str(event["reason"]).startswith("requested by the operator: the newest of 20")
    await a.service.restore(a.tenant, None, Moment(time()), silent)
    assert rows(a.path) == [1, 2]


async def test_a_moment_before_all_versions_changes_nothing_and_names_the_oldest(yard: Yard) -> None:
    a = yard.machine("a", ["one.db", "two.db"])
    await a.session(1, path=a.path.with_name("one.db"))
    with pytest.raises(RestoreRefused, match=r"one\.db: there is no version from .* or before: the oldest is 000001-0"):
        await a.service.restore(a.tenant, None, Moment(time() - 3600), silent)
    with pytest.raises(RestoreRefused, match=r"two\.db: it was never saved\. Nothing was changed; see flyatc history"):
        await a.service.restore(a.tenant, None, Moment(time()), silent)
    assert rows(a.path.with_name("one.db")) == [1]
    assert await a.service.orphans(a.tenant) == []


@pytest.mark.parametrize("wal", [False, True])
async def test_what_is_the_same_as_the_chosen_version_is_not_set_aside(yard: Yard, *, wal: bool) -> None:
    a = yard.machine("a")
    async with a.service.hold(a.tenant):
        add(a.path, 1, wal=wal)
        add(a.path, 2, wal=wal)
    await a.service.restore(a.tenant, None, None, silent)
    assert rows(a.path) == [1, 2]
    assert await a.service.orphans(a.tenant) == []
    assert yard.orphans() == []
    [first] = [version.id for version in await a.service.history(a.tenant)]
    await a.session(3)
    await a.service.restore(a.tenant, None, first, silent)
    assert len(await a.service.orphans(a.tenant)) == 1
    await a.service.restore(a.tenant, None, first, silent)  # which has the content of the current one by now
    assert len(await a.service.orphans(a.tenant)) == 1
    add(a.path, 3)  # not saved
    await a.service.restore(a.tenant, None, None, silent)
    assert rows(a.path) == [1, 2]
    assert [rows(folder / DATABASE) for folder in await a.service.orphans(a.tenant)] == [[1, 2, 3], [1, 2, 3]]


async def set_aside(yard: Yard) -> str:
    """The name of an orphan of machine b with [1, 77], while the store has [1, 2]."""
    await yard.machine("a").session(1)
    b = yard.machine("b")
    await b.session()
    add(b.path, 77)
    await yard.machine("a").session(2)
    assert await b.session() == [1, 2]
    await b.service.sent()
    [folder] = await b.service.orphans(b.tenant)
    return folder.name


async def test_what_was_set_aside_comes_back_on_top_of_history_from_the_disk(yard: Yard) -> None:
    name = await set_aside(yard)
    b = yard.machine("b")
    [folder] = orphaned_copies.folders(b.tenant.data / ".flyatc")
    assert (folder.name, folder.file, folder.size) == (name, DATABASE, 8192)
    found = orphaned_copies.set_aside_at(name)
    assert found is not None
    assert abs(found - time()) < 60
    yard.failing.calls.clear()
    await b.service.restore(b.tenant, DATABASE, OrphanChoice(name), silent)
    assert not [call for call in yard.failing.calls if call.startswith("download")]
    assert rows(b.path) == [1, 77]
    assert [version.id[-1] for version in await b.service.history(b.tenant)] == ["3", "2", "1"]
    assert await yard.machine("c").session() == [1, 77]
    assert rows(folder.path / DATABASE) == [1, 77], "it stays where it is"


async def test_another_machine_gets_it_from_the_store(yard: Yard) -> None:
    name = await set_aside(yard)
    c = yard.machine("c")
    await c.service.restore(c.tenant, None, OrphanChoice(name), silent)
    assert rows(c.path) == [1, 77]
    assert await yard.machine("a").session() == [1, 77]


@pytest.mark.parametrize("name", ["", "x", "../../../..", "20260101T000000.000000Z-abcdefgh"])
async def test_a_name_under_which_nothing_was_set_aside_changes_nothing(yard: Yard, name: str) -> None:
    await set_aside(yard)
    b = yard.machine("b")
    with pytest.raises(RestoreRefused, match=r"there is no orphaned copy .*, neither here nor in the store"):
        await b.service.restore(b.tenant, DATABASE, OrphanChoice(name), silent)
    assert await b.session() == [1, 2]


async def test_what_was_set_aside_and_is_damaged_refuses(yard: Yard) -> None:
    name = await set_aside(yard)
    b, c = yard.machine("b"), yard.machine("c")
    [folder] = orphaned_copies.folders(b.tenant.data / ".flyatc")
    (folder.path / DATABASE).write_bytes((folder.path / DATABASE).read_bytes()[:5000])
    with pytest.raises(
        RestoreRefused, match=r"(?s)the orphaned copy .* is damaged: .*It stays at .*sqlite3's \.recover"
    ):
        await b.service.restore(b.tenant, DATABASE, OrphanChoice(name), silent)
    [stored] = yard.orphans()
    stored.write_bytes(stored.read_bytes()[:-9])
    with pytest.raises(RestoreRefused, match=r"is damaged in the store: .*Nothing was overwritten"):
        await c.service.restore(c.tenant, DATABASE, OrphanChoice(name), silent)
    assert await b.session() == [1, 2]
