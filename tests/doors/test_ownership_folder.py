"""Leases on a real store, and the identity of a machine."""

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.objects.folder import FolderStore
from flyatc.observe.log import Log
from flyatc.ownership import identity
from flyatc.ownership.errors import HeldElsewhere
from flyatc.ownership.lease_manager import LeaseManager
from flyatc.ownership.record import Me, State
from flyatc.ownership.rules import Terms

FLY = {"FLY_MACHINE_ID": "3d8dd15c1ed778", "FLY_APP_NAME": "jts", "FLY_REGION": "waw"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    made = FolderStore(tmp_path / "store")
    await made.open()
    yield made
    made.close()


def keeper(store: FolderStore, me: Me) -> LeaseManager:
    return LeaseManager(store, me, Terms(), Log(io.BytesIO()))


async def test_two_daemons_hand_a_user_over(store: FolderStore, tmp_path: Path) -> None:
    one, other = (keeper(store, identity.read(tmp_path / name, {})) for name in ("one", "other"))
    async with one.hold("u") as owned:
        assert owned.valid()
        with pytest.raises(HeldElsewhere):
            async with other.hold("u"):
                raise AssertionError
    async with other.hold("u", known=0) as owned:
        assert (owned.epoch, owned.previous.clean) == (2, True)
        found = await one.look("u")
        assert found is not None
        assert found.state is State.HELD
    assert await one.look("v") is None
    await one.close()
    await other.close()


async def test_of_many_daemons_one_owns(store: FolderStore, tmp_path: Path) -> None:
    keepers = [keeper(store, identity.read(tmp_path / f"d{n}", {})) for n in range(6)]
    done, owners = asyncio.Event(), list[LeaseManager]()

    async def hold(one: LeaseManager) -> None:
        try:
            async with one.hold("u"):
                owners.append(one)
                await done.wait()
        except HeldElsewhere:
            return

    holds = [tasks.start(hold(one), "hold") for one in keepers]
    while sum(one.done() for one in holds) < 5:
        await asyncio.wait(holds, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
    assert len(owners) == 1
    done.set()
    await asyncio.gather(*holds)
    for one in keepers:
        await one.close()


def test_a_machine_is_what_the_platform_says(tmp_path: Path) -> None:
    first, second = identity.read(tmp_path, FLY), identity.read(tmp_path, FLY)
    assert (first.machine, first.app, first.region, first.platform) == ("3d8dd15c1ed778", "jts", "waw", True)
    assert first.boot != second.boot
    assert first.boot in second.boots
    assert second.boot not in second.boots
    assert identity.is_running(first.process)
    assert first.process.kernel == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_laptop_is_its_data_folder_and_a_copy_of_it_is_another(tmp_path: Path) -> None:
    first = identity.read(tmp_path / "data", {})
    again = identity.read(tmp_path / "data", {})
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copy = identity.read(tmp_path / "copy", {})
    assert again.machine == first.machine
    assert first.boot in again.boots
    assert not first.platform
    assert copy.machine != first.machine
    assert copy.boots == frozenset()


def test_another_machine_on_the_same_volume_knows_none_of_its_runs(tmp_path: Path) -> None:
    identity.read(tmp_path, FLY)
    moved = identity.read(tmp_path, FLY | {"FLY_MACHINE_ID": "148e21ea7d4389"})
    assert moved.machine == "148e21ea7d4389"
    assert moved.boots == frozenset()


def test_a_damaged_record_of_the_machine_makes_it_another(tmp_path: Path) -> None:
    first = identity.read(tmp_path, {})
    path = tmp_path / ".flyatc" / "machine.json"
    for damage in (b"", b"{", b"[]", json.dumps(json.loads(path.read_text()) | {"v": 2}).encode()):
        path.write_bytes(damage)
        assert identity.read(tmp_path, {}).machine != first.machine


def test_only_the_last_runs_are_remembered(tmp_path: Path) -> None:
    for _ in range(30):
        me = identity.read(tmp_path, {})
    assert len(me.boots) == identity.REMEMBERED


@pytest.mark.parametrize("name", ["FLY_MACHINE_ID", "FLY_APP_NAME", "FLY_REGION"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FlyatcError, match="FLY_"):
        identity.read(tmp_path, {name: "../x\r\n"})


def test_a_data_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(FlyatcError, match="cannot be written"):
        identity.read(tmp_path / "data", {})
