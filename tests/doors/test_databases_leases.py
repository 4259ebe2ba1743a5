"""Databases and leases: stamps, epochs, and the end of a lease."""

import asyncio
import io
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fakes.machines import DATABASE, Machine, Yard, add, rows
from fakes.owners import FakeLease, previous
from flyatc.config import load
from flyatc.daemon.leases import DaemonLeases, local_tenants
from flyatc.databases.litestream.backend import LitestreamBackend
from flyatc.databases.service import DatabaseService
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed, StillRunning
from flyatc.kit.types import silent
from flyatc.observe.log import Log
from flyatc.ownership.record import State


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def session(machine: Machine, owned: FakeLease, *numbers: int) -> list[int]:
    async with machine.service.hold(machine.tenant, owned):
        before = rows(machine.path)
        add(machine.path, *numbers)
    return before


async def crash(machine: Machine, owned: FakeLease, *numbers: int) -> None:
    """Written, and nothing of it saved."""

    async def live() -> None:
        async with machine.service.hold(machine.tenant, owned):
            add(machine.path, *numbers)
            owned.expire(lost=False)

    with pytest.raises(SaveFailed):
        await live()


async def robbed(machine: Machine, owned: FakeLease, number: int, thief: Machine, *numbers: int) -> list[int]:
    """The thief's session takes place amid the machine's own. Returns what it found. Raises SaveFailed."""
    async with machine.service.hold(machine.tenant, owned):
        add(machine.path, number)
        return await session(thief, FakeLease(owned.epoch + 1, previous(owned.epoch, clean=False)), *numbers)


async def test_a_save_of_the_former_owner_which_is_still_on_its_way_fails(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(1), 1)
    late = FakeLease(2)
    with pytest.raises(SaveFailed, match="another machine has taken it over"):
        await robbed(a, late, 2, b)
    assert late.dirty
    assert rows(b.path) == [1]
    assert rows(a.path) == [1, 2]


async def test_the_first_save_of_a_former_owner_fails_too_where_nothing_was_saved_yet(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    with pytest.raises(SaveFailed, match="another machine has taken it over"):
        await robbed(a, FakeLease(1), 1, b, 2)
    assert await session(a, FakeLease(3)) == [2]


async def test_versions_are_numbered_by_their_owner(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(1), 1)
    await session(b, FakeLease(2), 2)
    assert [one.id for one in await b.service.history(b.tenant)] == ["000002-000000002", "000001-000000001"]


async def test_what_this_machine_wrote_last_is_the_truth_after_a_crash(yard: Yard) -> None:
    a = yard.machine("a")
    await session(a, FakeLease(1), 1)
    await crash(a, FakeLease(2), 2)
    assert await session(a, FakeLease(3, previous(2, clean=False))) == [1, 2]
    assert not a.events("the local copy was set aside")


async def test_writes_before_a_takeover_are_set_aside_and_sent_to_the_store(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(1), 1)
    await crash(a, FakeLease(2), 2)
    await crash(b, FakeLease(3, previous(2, clean=False)), 3)
    assert await session(a, FakeLease(4, previous(3, clean=False))) == [1]
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2]
    await a.service.sent()
    (sent,) = a.events("the orphaned copy is in the store as well")
    assert sent["name"] == orphan.name
    (stored,) = await yard.store.list("users/bellevue/orphans/")
    assert stored.key.endswith(f"/{orphan.name}.sqlite3.zst")


async def test_what_could_not_be_sent_is_sent_by_the_next_run(yard: Yard) -> None:
    a = yard.machine("a")
    await session(a, FakeLease(1), 1)
    owned = FakeLease(2)
    async with a.service.hold(a.tenant, owned):
        add(a.path, 2)
        yard.failing.fail()
        owned.expire(lost=True)
    await a.service.sent(patience=0.1)
    assert len(a.events("the orphaned copy is on this machine only")) == 1
    yard.failing.mend()
    for _ in range(2):
        again = yard.machine("a")
        await again.service.send_orphans([again.tenant])
        await again.service.sent()
    assert len(await yard.store.list("users/bellevue/orphans/")) == 1
    assert again.events("the orphaned copy is in the store as well") == [], "it knows that it was sent"


async def test_what_another_machine_owns_since_is_given_up_without_owning_it(yard: Yard) -> None:
    a = yard.machine("a")
    await session(a, FakeLease(1), 1)
    await crash(a, FakeLease(2), 2)
    assert not await a.service.give_up(a.tenant, 2, "it may still be ours")
    assert rows(a.path) == [1, 2]
    assert await a.service.give_up(a.tenant, 3, "someone else has it")
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2]
    assert await a.service.unsaved([a.tenant]) == []
    assert await session(a, FakeLease(5)) == [1]


async def test_unsaved_rows_are_kept_where_others_came_and_went_without_a_change(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(1), 1)
    await crash(a, FakeLease(2), 2)
    assert await session(b, FakeLease(3, previous(2, clean=False))) == [1]
    assert await session(a, FakeLease(4, previous(3, clean=True))) == [1, 2]


async def test_an_outdated_copy_which_was_saved_is_no_orphan(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(1), 1)
    await session(b, FakeLease(2), 2)
    assert await session(a, FakeLease(3)) == [1, 2]
    assert await a.service.orphans(a.tenant) == []


async def test_a_copy_equal_to_the_stores_is_kept_whichever_machine_had_it_meanwhile(yard: Yard) -> None:
    a = yard.machine("a")
    await session(a, FakeLease(1), 1)
    assert await session(a, FakeLease(5, previous(4, clean=False))) == [1]
    assert a.events("restored") == []


async def test_nothing_is_saved_while_this_machine_may_not_write(yard: Yard) -> None:
    a = yard.machine("a")
    owned = FakeLease(1)
    async with a.service.hold(a.tenant, owned) as held:
        add(a.path, 1)
        owned.may = False
        with pytest.raises(SaveFailed, match="may not write at this moment"):
            await held.save(silent)
        assert yard.snapshots() == []
        owned.may = True
    assert len(yard.snapshots()) == 1


async def test_an_app_that_starts_again_after_a_save_failed_goes_on_with_its_own_files(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(1), 1)
    owned = FakeLease(2, previous(1, clean=False))  # taken over, and held through both starts

    async def unsaved() -> None:
        async with b.service.hold(b.tenant, owned):
            add(b.path, 2)
            owned.may = False

    with pytest.raises(SaveFailed, match="may not write at this moment"):
        await unsaved()
    owned.may = True
    assert await session(b, owned) == [1, 2]
    assert await b.service.orphans(b.tenant) == []


async def test_what_is_unsaved_when_the_user_is_lost_is_set_aside_at_once(yard: Yard) -> None:
    a = yard.machine("a")
    await session(a, FakeLease(1), 1)
    owned = FakeLease(2)
    async with a.service.hold(a.tenant, owned):
        add(a.path, 2)
        owned.expire(lost=True)
    (orphan,) = await a.service.orphans(a.tenant)
    assert rows(orphan / DATABASE) == [1, 2]
    assert not a.path.exists()
    await a.service.sent()
    assert (len(yard.snapshots()), len(yard.orphans())) == (1, 1)
    assert await session(a, FakeLease(4)) == [1]


async def test_an_owner_record_which_was_removed_starts_above_what_the_data_know(yard: Yard) -> None:
    a, b = yard.machine("a"), yard.machine("b")
    await session(a, FakeLease(7), 1)
    owned = FakeLease(1)
    await session(b, owned, 2)
    assert owned.epoch == 8
    shutil.rmtree(yard.root / "a")
    assert await session(yard.machine("a"), FakeLease(9)) == [1, 2]


async def survived(machine: Machine, owned: FakeLease, *numbers: int) -> None:
    """Written, and something of the app cannot be ended."""
    async with machine.service.hold(machine.tenant, owned):
        add(machine.path, *numbers)
        raise StillRunning("process 4711 cannot be ended")


async def test_where_something_still_runs_it_is_saved_but_neither_as_the_last_nor_as_clean(yard: Yard) -> None:
    machine, owned = yard.machine("a"), FakeLease(1)
    with pytest.raises(StillRunning):
        await survived(machine, owned, 1)
    assert owned.dirty == "process 4711 cannot be ended"
    assert len(await machine.service.history(machine.tenant)) == 1
    assert await machine.service.unsaved([machine.tenant]) == [machine.tenant], "the next start must save again"
    await session(machine, FakeLease(2))
    assert await machine.service.unsaved([machine.tenant]) == []


async def test_a_stray_file_beside_the_folders_of_tenants_is_no_tenant(tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text("server: {data: data}\napp: {command: [true]}\nusers: {ann: {}}\n")
    (tmp_path / "data/tenants/ann/~").mkdir(parents=True)
    (tmp_path / "data/tenants/ann/app.sqlite3").touch()
    found = await local_tenants(load.load(tmp_path / "tenants.yaml", {}))
    assert [one.address for one in found] == ["ann"]


async def test_unsaved_data_of_another_tenant_makes_the_user_dirty_also_when_the_release_is_cut_short(
    tmp_path: Path, yard: Yard
) -> None:
    text = "server: {data: data}\napp: {command: [true]}\nusers: {ann: {tenants: [one, two]}}\n"
    (tmp_path / "tenants.yaml").write_text(text)
    config = load.load(tmp_path / "tenants.yaml", {})
    record = tmp_path / "data/tenants/ann/two/.flyatc/databases.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"databases": {"app.sqlite3": {"in_use": true}}}')
    log = Log(io.BytesIO())
    service = DatabaseService(yard.store, config.storage, log, lambda text, tenant: text)
    leases = DaemonLeases(config, {}, log, service)
    await leases.open()
    held, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with leases.hold(config.tenants["ann/one"]):
            held.set()
            await leave.wait()

    holding = tasks.start(hold(), "hold")
    await held.wait()
    leave.set()
    await asyncio.sleep(0)  # the release has begun
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    owner = await leases.look("ann")
    assert owner is not None
    assert (owner.state, owner.why) == (State.DIRTY, "ann/two is not saved")
    await leases.leave()
    leases.close()
    service.close()


async def test_litestream_is_started_while_the_lease_is_taken(tmp_path: Path, yard: Yard) -> None:
    (tmp_path / "tenants.yaml").write_text("server: {data: data}\napp: {command: [true]}\nusers: {ann: }\n")
    config, log = load.load(tmp_path / "tenants.yaml", {}), Log(io.BytesIO())
    backend = Mock(spec=LitestreamBackend)
    service = DatabaseService(yard.store, config.storage, log, lambda text, tenant: text, lambda tools: backend)
    leases = DaemonLeases(config, {}, log, service)
    await leases.open()
    known = service.known

    async def asked(*tenants: Any) -> int:
        backend.expect.assert_called_once_with()
        return await known(*tenants)

    service.known = asked  # type: ignore[method-assign, assignment]
    async with leases.hold(config.tenants["ann"]):
        pass
    backend.expect.assert_called_once_with()
    await leases.leave()
    leases.close()
    service.close()
