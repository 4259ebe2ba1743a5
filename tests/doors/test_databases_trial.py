"""A trial is undone by the next hold of the databases unless it was committed; copies for a rehearsal."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fakes.machines import Machine, Yard, add, rows
from flyatc.databases import trial
from flyatc.kit.errors import RestoreRefused

FILES = ("storage",)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard(tmp_path) as made:
        yield made


async def prepared(yard: Yard) -> Machine:
    """A machine with one row and one file, both saved."""
    machine = yard.machine("a", files=FILES)
    async with machine.service.hold(machine.tenant):
        machine.storage.mkdir()
        (machine.storage / "one.txt").write_text("one")
        add(machine.path, 1)
    return machine


async def tried(machine: Machine, work: Callable[[], object], *, done: bool) -> None:
    """A trial that is cut off: the command line, the daemon and the machine are gone."""
    with machine.service.held.exclusively(machine.tenant):
        await machine.service.mark_in_use(machine.tenant)
        trial.write(machine.tenant, trial.Note(run="r"))
        work()
        if done:
            trial.write(machine.tenant, trial.Note(run="r", done=True))


def change(machine: Machine) -> None:
    add(machine.path, 2)
    (machine.storage / "one.txt").unlink()
    (machine.storage / "two.txt").write_text("two")


def seen(machine: Machine, data: Path | None = None) -> tuple[list[int], dict[str, str]]:
    data = data or machine.tenant.data
    found = {path.name: path.read_text() for path in (data / "storage").iterdir()}
    return rows(data / machine.path.name), found


BEFORE = [1], {"one.txt": "one"}
AFTER = [1, 2], {"two.txt": "two"}


async def test_a_trial_without_a_commit_is_undone_by_the_next_hold_and_what_it_changed_is_kept_aside(
    yard: Yard,
) -> None:
    machine = await prepared(yard)
    await tried(machine, lambda: change(machine), done=False)
    assert seen(machine) == AFTER
    assert await machine.service.unsaved([machine.tenant]) == [machine.tenant], "the next daemon looks at it at once"
    async with machine.service.hold(machine.tenant):
        assert seen(machine) == BEFORE
    assert trial.read(machine.tenant) is None
    assert await machine.service.unsaved([machine.tenant]) == []
    aside = machine.tenant.data / ".flyatc" / "orphans"
    [database] = aside.glob(f"*/{machine.path.name}")
    assert rows(database) == [1, 2]
    assert [path.name for path in aside.glob("*/storage/*")] == ["two.txt"]


async def test_a_committed_trial_is_saved_by_the_next_hold(yard: Yard) -> None:
    machine = await prepared(yard)
    await tried(machine, lambda: change(machine), done=True)
    async with machine.service.hold(machine.tenant):
        assert seen(machine) == AFTER
    assert trial.read(machine.tenant) == trial.Note(run="r", done=True)
    other = yard.machine("b", files=FILES)
    async with other.service.hold(other.tenant):
        assert seen(other) == AFTER


async def test_another_machine_gets_the_version_of_before_while_a_trial_goes_on(yard: Yard) -> None:
    machine, other = await prepared(yard), yard.machine("b", files=FILES)
    await tried(machine, lambda: change(machine), done=True)
    async with other.service.hold(other.tenant):
        assert seen(other) == BEFORE


async def test_a_database_that_a_trial_has_made_is_gone_after_it(yard: Yard) -> None:
    machine = yard.machine("a")
    async with machine.service.hold(machine.tenant):
        pass
    await tried(machine, lambda: add(machine.path, 7), done=False)
    async with machine.service.hold(machine.tenant):
        assert not machine.path.exists()


async def test_a_restore_by_the_operator_undoes_a_trial_first(yard: Yard) -> None:
    machine = await prepared(yard)
    await tried(machine, lambda: change(machine), done=False)
    await machine.service.restore(machine.tenant, machine.path.name, None, lambda step, done, total: None)
    async with machine.service.hold(machine.tenant):
        assert seen(machine) == BEFORE


@pytest.mark.parametrize("made", ["garbage", "pipe", "link"])
async def test_a_note_that_cannot_be_read_refuses_the_databases_and_names_itself(yard: Yard, made: str) -> None:
    machine = await prepared(yard)
    path = machine.tenant.data / ".flyatc" / "trial.json"
    if made == "garbage":
        path.write_text("no")
    elif made == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/hostname")
    with pytest.raises(RestoreRefused, match=r"trial\.json cannot be read"):
        async with machine.service.hold(machine.tenant):
            pass
    assert seen(machine) == BEFORE


async def test_a_copy_has_the_newest_versions_and_the_store_is_only_read(yard: Yard, tmp_path: Path) -> None:
    machine = await prepared(yard)
    async with machine.service.hold(machine.tenant):
        change(machine)
    before = {path: path.read_bytes() for path in (yard.root / "store").rglob("*") if path.is_file()}
    shutil.rmtree(machine.tenant.data)
    await machine.service.copy(machine.tenant, tmp_path / "copy")
    assert seen(machine, tmp_path / "copy") == AFTER
    assert not machine.tenant.data.exists()
    sqlite3.connect(tmp_path / "copy" / machine.path.name).close()
    assert {path: path.read_bytes() for path in (yard.root / "store").rglob("*") if path.is_file()} == before
