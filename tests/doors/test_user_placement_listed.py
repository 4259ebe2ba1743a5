"""The machine of a user that only the Machines API knows, looked up in the simulator's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from doors.test_user_placement import Owners, configured, where
from fakes.fly import Fly, small_fly
from flyatc.config.schema_sections import Listen
from flyatc.daemon.user_placement import UserPlacement
from flyatc.fly.api import MachinesApi
from flyatc.fly.dns_client import Dns
from flyatc.fly.environment import Machine
from flyatc.fly.machine_list import MachineList
from flyatc.fly.provision import Provisioner
from flyatc.fly.user_lookup import UserLookup
from flyatc.observe.log import Log
from flyatc.ownership.record import Data, Holder, Owner, State
from flyatc.routing.placement_rules import Here, Nowhere, There
from flyatc.routing.replay import Target
from flyatc.sim.simulator import TOKEN
from flyatc.sim.types import Faults

USERS = "{ann: , cid: , '*': {match: '[0-9]+'}}"
PROVISION = "{ann: , cid: , '*': {match: '[0-9]+', provision: true}}"


@pytest_asyncio.fixture
async def fly(tmp_path: Path) -> AsyncIterator[Fly]:
    async with small_fly(tmp_path / "fly") as one:
        yield one


@pytest.fixture
def owners() -> Owners:
    return Owners()


@pytest_asyncio.fixture
async def placing(
    fly: Fly, owners: Owners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[UserPlacement]:
    """Of m1."""
    monkeypatch.setattr("flyatc.daemon.user_placement.KEPT", 0.0)
    monkeypatch.setattr("flyatc.fly.user_lookup.ABSENT", 0.0)
    monkeypatch.setattr("flyatc.fly.machine_list.HURRIED", 0.0)
    monkeypatch.setattr("flyatc.fly.machine_list.KNOWN", 0.0)
    monkeypatch.setattr("flyatc.fly.user_lookup.LISTED", 0.0)
    record = fly["m1"].record
    me = Machine(record.app, record.id, record.region, record.address)
    config = configured(tmp_path, USERS)
    api = MachinesApi("sim", {"FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{fly.simulator.api_port}",
                              "FLY_API_TOKEN": TOKEN})  # fmt: skip
    with (tmp_path / "log").open("wb") as out:
        log = Log(out)
        names = UserLookup(Dns(Listen("127.0.0.1", fly.simulator.dns_port)), me, "customer_id", log)
        inventory = MachineList(api, me, "customer_id", log)
        one = UserPlacement(
            config, me, owners, names, inventory, Provisioner(api, inventory, me, "customer_id", config.fly, log)
        )
        yield one
        one.close()
        await api.close()


def had(fly: Fly, name: str) -> Owner:
    record = fly[name].record
    holder = Holder(app=record.app, machine=record.id, region=record.region, boot="b")
    return Owner(epoch=3, state=State.RELEASED, holder=holder, nonce="n", ttl=30.0, data=Data(line=1, since=1))


async def test_a_sleeping_machine_whose_user_never_came_is_found(
    fly: Fly, placing: UserPlacement, owners: Owners
) -> None:
    await fly["m2"].stop()
    assert where(await placing.find("200")) == Target("sim", id=fly.id("m2"))
    assert owners.looked == ["200"], "the last holder would come first"
    stranger = await placing.find("9")
    assert isinstance(stranger, Nowhere)
    assert stranger.status == 404
    assert where(await placing.find("ann")) is Here


async def test_without_the_api_unknown_users_wait_and_no_known_one_counts_as_unknown(
    fly: Fly, placing: UserPlacement, owners: Owners
) -> None:
    fly.simulator.break_things(Faults(api="503"))
    owners.known["ann"] = had(fly, "m2")
    for user in ("9", "cid"):
        place = await placing.find(user)
        assert isinstance(place, Nowhere)
        assert (place.status, "the Machines API answered 503" in place.reason) == (503, True)
    assert where(await placing.find("100")) is Here
    assert where(await placing.find("200")) == where(await placing.find("ann")) == Target("sim", id=fly.id("m2"))


async def test_a_sleeping_machine_which_cannot_be_reached_is_given_up(
    fly: Fly, placing: UserPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyatc.routing.replay_cache.PATIENCE", 0.0)
    await fly["m2"].stop()
    there = Target("sim", id=fly.id("m2"))
    assert where(await placing.find("200")) == there
    placing.sent("200", there)
    placing.failed("200", 0.0)
    place = await placing.find("200")
    assert isinstance(place, Here)
    assert "cannot be reached" in place.reason


async def test_the_api_says_whether_a_last_owner_is_gone_where_the_dns_does_not(
    fly: Fly, placing: UserPlacement, owners: Owners
) -> None:
    owners.known["ann"] = had(fly, "m2")
    fly.simulator.break_things(Faults(dns="nxdomain"))
    assert where(await placing.find("ann")) == Target("sim", id=fly.id("m2"))
    fly.simulator.break_things(Faults())
    await fly.simulator.machines.destroy(fly["m2"])
    wanted = {"config": {"image": "x", "metadata": {"customer_id": "200"}}, "region": "syd"}
    new = (await fly.api("POST", "", wanted)).json["id"]
    await fly.simulator.machines.named(new).stop()
    assert where(await placing.find("ann")) is Here
    owners.known["200"] = owners.known["ann"]
    assert where(await placing.find("200")) == Target("sim", id=new), "the machine which has taken its place"


async def test_a_client_that_cannot_wait_learns_that_the_machine_is_being_made(
    placing: UserPlacement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyatc.fly.provision.PATIENCE", 0.0)
    placing.use(configured(tmp_path, PROVISION))
    place = await placing.find("300")
    assert place == Nowhere(503, "a machine is being made for the user", soon=True)
    monkeypatch.setattr("flyatc.fly.provision.PATIENCE", 20.0)
    assert isinstance(await placing.find("300"), There)


async def test_a_user_without_a_machine_gets_one_where_the_file_says_so(
    fly: Fly, placing: UserPlacement, tmp_path: Path
) -> None:
    placing.use(configured(tmp_path, PROVISION))
    place = await placing.find("300")
    made = fly["user-300"].record
    assert where(place) == Target("sim", id=made.id)
    assert (made.region, made.metadata) == ("iad", {"customer_id": "300"})
    assert where(await placing.find("ann")) is Here, "who is named in the file needs none"
