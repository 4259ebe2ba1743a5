"""Machines found and created through the simulator's Machines API."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from fakes.fly import Fly, small_fly
from flyatc.config.schema_sections import Fly as Settings
from flyatc.fly import dns_answers
from flyatc.fly import machine_list as inventories
from flyatc.fly import machines_by_user as listings
from flyatc.fly.api import MachinesApi
from flyatc.fly.environment import Machine
from flyatc.fly.machine_list import MachineList
from flyatc.fly.provision import NotMade, Provisioner
from flyatc.observe.log import Log
from flyatc.sim.simulator import TOKEN
from flyatc.sim.types import Faults


class Edge:
    """Records what one machine knows of the others."""

    def __init__(self, fly: Fly, name: str, log: Log, settings: Settings | None = None) -> None:
        record = fly[name].record
        me = Machine(record.app, record.id, record.region)
        environ = {"FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{fly.simulator.api_port}", "FLY_API_TOKEN": TOKEN}
        self.api = MachinesApi("sim", environ)
        self.inventory = MachineList(self.api, me, "customer_id", log)
        self.making = Provisioner(self.api, self.inventory, me, "customer_id", settings or Settings(), log)

    async def close(self) -> None:
        self.making.close()
        await self.api.close()


@pytest_asyncio.fixture
async def fly(tmp_path: Path) -> AsyncIterator[Fly]:
    async with small_fly(tmp_path / "fly") as one:
        yield one


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log").open("wb") as out:
        yield Log(text=False, level="info", out=out)


@asynccontextmanager
async def edge(fly: Fly, log: Log, name: str = "m1", settings: Settings | None = None) -> AsyncIterator[Edge]:
    one = Edge(fly, name, log, settings)
    try:
        yield one
    finally:
        await one.close()


def written(log: Log, folder: Path) -> str:
    """All of it."""
    log.close()
    return (folder / "log").read_text()


def of_user(fly: Fly, user: str) -> list[str]:
    return [one.record.id for one in fly.simulator.machines if one.record.metadata.get("customer_id") == user]


# --- who has a user ---


async def test_sleeping_machines_are_found_and_a_storm_of_unknown_users_costs_one_call(fly: Fly, log: Log) -> None:
    await fly["m2"].stop()
    async with edge(fly, log) as one:
        found = await one.inventory.machine_of("200")
        assert isinstance(found, dns_answers.Found)
        assert (found.machine, found.launched) == (fly.id("m2"), True)
        strangers = await asyncio.gather(*(one.inventory.machine_of(str(user)) for user in range(1000, 2000)))
        assert {type(one) for one in strangers} == {dns_answers.Absent}, "and the API refuses the fourth question"
        assert await one.inventory.machines() == 2


async def test_what_was_listed_has_to_do_while_the_api_is_away_and_without_it_nothing_is_known(
    fly: Fly, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "LEAST", 0.0)
    monkeypatch.setattr(listings, "MOST", 0.0)
    monkeypatch.setattr(inventories, "HURRIED", 0.0)
    async with edge(fly, log) as one, edge(fly, log) as late:
        assert isinstance(await one.inventory.machine_of("200"), dns_answers.Found)
        fly.simulator.break_things(Faults(api="429"))
        found, absent = await one.inventory.machine_of("200"), await one.inventory.machine_of("9")
        assert isinstance(found, dns_answers.Found)
        assert isinstance(absent, dns_answers.Absent)
        assert found.stale
        assert absent.stale
        assert await one.inventory.machines() is None, "no one is made on such an answer"
        unknown = await late.inventory.machine_of("200")
        assert isinstance(unknown, dns_answers.Unknown)
        assert "429" in unknown.why
        assert await one.inventory.deployed("148e21dad76789") is None
    assert written(log, tmp_path).count("the Machines API does not list the machines") == 2


async def test_only_the_first_waits_for_an_api_which_hangs(fly: Fly, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"http://127.0.0.1:{mute.getsockname()[1]}"
        api = MachinesApi("sim", {"FLY_FLAPS_BASE_URL": where, "FLY_API_TOKEN": "x"})
        inventory = MachineList(api, Machine("sim", fly.id("m1"), "iad"), "customer_id", log)
        for patience in (0.1, 3600.0):
            monkeypatch.setattr(inventories, "PATIENCE", patience)
            found = await inventory.machine_of("9")
            assert isinstance(found, dns_answers.Unknown)
            assert "has not listed the machines" in found.why
        await api.close()


async def test_a_list_without_ourselves_is_not_believed(fly: Fly, log: Log) -> None:
    async with edge(fly, log) as one:
        await fly.simulator.machines.destroy(fly["m1"])
        found = await one.inventory.machine_of("9")
        assert isinstance(found, dns_answers.Unknown)
        assert "not this one" in found.why


async def test_whether_a_machine_is_there_is_asked_where_the_list_has_it_not(fly: Fly, log: Log) -> None:
    async with edge(fly, log) as one:
        assert await one.inventory.deployed(fly.id("m2")) is True
        made = (await fly.api("POST", "", {"config": {"image": "x"}, "skip_launch": True})).json["id"]
        assert await one.inventory.deployed(made) is True
        assert await one.inventory.deployed("148e21dad76789") is False


async def test_several_machines_of_a_user_are_reported_and_one_is_chosen(fly: Fly, log: Log, tmp_path: Path) -> None:
    fly["m2"].record.metadata["customer_id"] = "100"
    async with edge(fly, log) as one:
        for _ in range(3):
            found = await one.inventory.machine_of("100")
        assert isinstance(found, dns_answers.Found)
        assert found.machine == fly.id("m1")
    assert written(log, tmp_path).count("several machines have one user") == 1


# --- who has none gets one ---


async def test_two_edges_which_make_a_machine_for_one_user_at_once_make_one(fly: Fly, log: Log) -> None:
    async with edge(fly, log, "m1") as one, edge(fly, log, "m2") as other:
        made = await asyncio.gather(*(each.making.machine_for("300") for each in (one, one, other)))
        assert made == of_user(fly, "300") * 3
        assert fly["user-300"].state == "started"
        found = await one.inventory.machine_of("300")
        assert isinstance(found, dns_answers.Found)


async def test_a_copy_has_a_volume_of_its_own_which_goes_where_no_machine_comes_of_it(
    fly: Fly, log: Log, tmp_path: Path
) -> None:
    async with edge(fly, log) as one:
        ours = await one.api.create_volume("data", "iad", 7, None)
        fly["m1"].record.config = {"mounts": [{"volume": ours.id, "path": "/data"}], "env": {"PLAN": "free"}}
        made = await one.making.machine_for("300")
        assert [made] == of_user(fly, "300")
        config = await one.api.config(str(made))
        assert (config["env"], config["mounts"][0]["path"]) == ({"PLAN": "free"}, "/data")
        assert [(v.name, v.size_gb, v.attached_machine_id) for v in await one.api.volumes()][1:] == [("data", 7, made)]
        (await fly.api("POST", "", {"name": "user-400", "config": {"image": "x"}, "skip_launch": True})).json["id"]
        taken = await one.making.machine_for("400")
        assert isinstance(taken, NotMade)
        assert "set customer_id=400 in its metadata, or destroy it" in taken.why
        assert len(await one.api.volumes()) == 2
    assert "no machine could be made for user" in written(log, tmp_path)


async def test_a_machine_whose_creation_got_no_response_is_found_again(fly: Fly, log: Log) -> None:
    async with edge(fly, log) as one:
        fly.simulator.break_things(Faults(api="lost"))
        made = await one.making.machine_for("300")
        assert [made] == of_user(fly, "300")


async def test_only_so_many_are_made(fly: Fly, log: Log, tmp_path: Path) -> None:
    async with edge(fly, log, settings=Settings(machines_most=4, machines_a_minute=1)) as one:
        made = await asyncio.gather(*(one.making.machine_for(str(user)) for user in range(300, 310)))
        refused = [each for each in made if isinstance(each, NotMade)]
        assert len(refused) == 9
        assert "fly.machines_a_minute" in refused[0].why
    async with edge(fly, log, "m2", Settings(machines_most=3)) as other:
        full = await other.making.machine_for("400")
        assert isinstance(full, NotMade)
        assert full.why == "there are 3 machines: none is made for the user (fly.machines_most)"
    assert written(log, tmp_path).count("no machine is made for a user") == 2


async def test_a_machine_that_was_made_and_never_started_is_started(fly: Fly, log: Log) -> None:
    wanted = {"config": {"image": "x", "metadata": {"customer_id": "300"}}, "skip_launch": True}
    machine = (await fly.api("POST", "", wanted)).json["id"]
    async with edge(fly, log) as one:
        found = await one.inventory.machine_of("300")
        assert isinstance(found, dns_answers.Found)
        assert not found.launched
        assert await one.making.launched("300", machine) == machine
        assert of_user(fly, "300") == [machine]


async def test_without_the_api_no_user_gets_one(fly: Fly, log: Log) -> None:
    async with edge(fly, log) as one:
        assert await one.inventory.machines() == 2
        fly.simulator.break_things(Faults(api="403"))
        made = await one.making.machine_for("300")
        assert isinstance(made, NotMade)
        assert "FLY_API_TOKEN" in made.why
        assert of_user(fly, "300") == []
