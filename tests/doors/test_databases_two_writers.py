"""Two writers of one database: one of them learns it, and the rows of neither are lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.machines import DATABASE, Yard, add, rows
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def test_the_loser_learns_it_and_its_copy_is_set_aside_at_the_next_hold(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await a.session(1)

    async def lose() -> None:
        async with a.service.hold(a.tenant):
            add(a.path, 2)
            await b.session(3)

    with pytest.raises(SaveFailed, match="another machine has written version 000001-000000002"):
        await lose()
    assert rows(a.path) == [1, 2]
    assert await a.session(4) == [1, 3]
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2]
    assert await b.session() == [1, 3, 4]


async def test_the_loser_does_not_fill_the_store_with_unreferenced_snapshots(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await a.session(1)

    async def lose() -> None:
        async with a.service.hold(a.tenant) as held:
            await b.session(3)
            for number in range(5):
                add(a.path, number)
                with pytest.raises(SaveFailed, match="another machine has written"):
                    await held.save(silent)

    with pytest.raises(SaveFailed, match="another machine has written"):
        await lose()
    assert len(yard.snapshots()) == 2


async def test_of_two_writers_of_the_first_version_one_wins(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    up = asyncio.Barrier(2)

    async def live(name: str, number: int) -> bool:
        machine = a if name == "a" else b
        try:
            async with machine.service.hold(machine.tenant):
                add(machine.path, number)
                await up.wait()
        except SaveFailed:
            return False
        return True

    won = await asyncio.gather(live("a", 1), live("b", 2))
    assert sorted(won) == [False, True]
    winner, loser = (a, b) if won[0] else (b, a)
    number = 1 if won[0] else 2
    assert await loser.session() == [number]
    assert await winner.session() == [number]
    (orphan,) = await loser.service.orphans(loser.tenant)
    assert rows(orphan / DATABASE) == [3 - number]


async def test_saves_of_one_holder_never_rival_each_other(yard: Yard) -> None:
    a = yard.machine("a", interval=0.001)
    async with a.service.hold(a.tenant) as held:
        for number in range(10):
            add(a.path, number)
            await asyncio.gather(*(held.save(silent) for _ in range(5)))
    assert a.events("not saved") == []
    assert await yard.machine("b").session() == list(range(10))
