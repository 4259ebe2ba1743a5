"""The client of the Machines API, against the simulator's."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fakes.fly import Fly, small_fly
from flyatc.fly import api_http, api_types
from flyatc.fly.api import MachinesApi
from flyatc.sim.simulator import TOKEN
from flyatc.sim.types import Faults

PATIENCE = 8.0  # s; the API takes one request a second of a kind


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fly(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fly]:
    async with small_fly(tmp_path_factory.mktemp("fly")) as one:
        yield one


def client(fly: Fly, token: str = TOKEN, patience: float = PATIENCE) -> MachinesApi:
    environ = {"FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{fly.simulator.api_port}/", "FLY_API_TOKEN": f" {token}\n"}
    return MachinesApi("sim", environ, patience)


@pytest_asyncio.fixture(loop_scope="module")
async def api(fly: Fly) -> AsyncIterator[MachinesApi]:
    one = client(fly)
    yield one
    await one.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_machines_are_found_in_any_state(fly: Fly, api: MachinesApi) -> None:
    everybody = await api.machines()
    assert {one.name: one.metadata for one in everybody} == {"m1": {"customer_id": "100"}, "m2": {"customer_id": "200"}}
    assert [one.name for one in await api.machines(metadata=("customer_id", "200"))] == ["m2"]
    one = await api.get(fly.id("m1"))
    assert (one.state, one.region, one.private_ip) == ("started", "iad", fly["m1"].record.address)
    assert one.config is not None
    assert one.config.guest is not None
    assert one.config.guest.memory_mb == 512


@pytest.mark.asyncio(loop_scope="module")
async def test_a_machine_is_cloned_with_a_volume_sleeps_wakes_and_ends(fly: Fly, api: MachinesApi) -> None:
    config = await api.config(fly.id("m1"))
    volume = await api.create_volume("data", "ams", 2, config["guest"])
    config |= {"metadata": {"customer_id": "300"}, "mounts": [{"volume": volume.id, "path": "/data"}]}
    made = await api.create(config, region="ams", name="u-300")
    await api.wait(made.id, "started", 10)
    with pytest.raises(api_types.NameTaken) as taken:
        await api.create(config, region="ams", name="u-300")
    assert taken.value.machine == made.id
    with pytest.raises(api_types.Conflict, match="in use"):
        await api.create(config, region="ams", name="u-301")
    assert [(one.name, one.size_gb, one.attached_machine_id) for one in await api.volumes()] == [("data", 2, made.id)]
    await fly["u-300"].suspend()
    await api.wait(made.id, "suspended", 10)
    await api.start(made.id)
    await api.stop(made.id)
    await api.wait(made.id, "stopped", 10, made.instance_id)
    await api.destroy(made.id)
    await api.wait(made.id, "destroyed", 10)
    await api.destroy(made.id)
    await api.destroy_volume(volume.id)
    assert await api.volumes() == []
    with pytest.raises(api_types.NotFound):
        await api.get(made.id)


@pytest.mark.asyncio(loop_scope="module")
async def test_metadata_is_written_and_deleted(fly: Fly, api: MachinesApi) -> None:
    machine = fly.id("m2")
    await api.set_metadata(machine, "plan", "free & easy")
    assert fly["m2"].record.metadata == {"customer_id": "200", "plan": "free & easy"}
    await api.delete_metadata(machine, "plan")
    assert fly["m2"].record.metadata.keys() == {"customer_id"}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_command_runs_inside_and_its_failure_is_reported(fly: Fly, api: MachinesApi) -> None:
    ran = await api.exec(fly.id("m1"), ["sh", "-c", "echo $FLY_MACHINE_ID; echo no >&2; exit 3"])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, f"{fly.id('m1')}\n", "no\n")


@pytest.mark.asyncio(loop_scope="module")
async def test_waiting_ends(fly: Fly, api: MachinesApi) -> None:
    with pytest.raises(api_types.TooSlow, match="suspended within 1 s"):
        await api.wait(fly.id("m1"), "suspended", 1)


@pytest.mark.asyncio(loop_scope="module")
async def test_calls_beyond_the_rate_limit_wait_for_their_turn_or_fail(fly: Fly, api: MachinesApi) -> None:
    for _ in range(4):
        await api.cordon(fly.id("m1"))
        await api.uncordon(fly.id("m1"))
    hasty = client(fly, patience=0)
    reported = await asyncio.gather(*(hasty.uncordon(fly.id("m1")) for _ in range(20)), return_exceptions=True)
    assert any(isinstance(one, api_types.TooMany) and "one request a second" in str(one) for one in reported)
    await hasty.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_an_api_which_comes_back_is_asked_again(fly: Fly, api: MachinesApi) -> None:
    fly.simulator.break_things(Faults(api="503"))
    asked = asyncio.create_task(api.get(fly.id("m1")))  # noqa: TID251
    await asyncio.sleep(0.2)
    assert not asked.done()
    fly.simulator.break_things(Faults())
    assert (await asked).name == "m1"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_may_have_been_done_is_not_done_twice(fly: Fly, api: MachinesApi) -> None:
    fly.simulator.break_things(Faults(api="away"))
    try:
        with pytest.raises(api_types.Away, match="does not answer") as away:
            await api.create({"image": "x"}, region="", name="once")
        assert away.value.done
    finally:
        fly.simulator.break_things(Faults())


@pytest.mark.asyncio(loop_scope="module")
async def test_no_error_contains_the_token(fly: Fly) -> None:
    stranger = client(fly, "FlyV1 fm2_hidden,words")
    with pytest.raises(api_types.NoToken, match="401") as refused:
        await stranger.machines()
    assert "hidden" not in str(refused.value)
    await stranger.close()
    with pytest.raises(api_types.NoToken, match="not set"):
        MachinesApi("sim", {})
    with pytest.raises(api_types.NoToken, match="characters") as broken:
        MachinesApi("sim", {"FLY_API_TOKEN": "hidden\nX-More: 1"})
    assert "hidden" not in str(broken.value)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unreachable_api_is_reported_at_once_where_patience_has_an_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gone = MachinesApi("sim", {"FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{port}", "FLY_API_TOKEN": "x"}, patience=0)
    with pytest.raises(api_types.Away, match="FLY_FLAPS_BASE_URL right") as away:
        await gone.machines()
    assert not away.value.done
    await gone.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_hostile_names_reach_no_path(api: MachinesApi) -> None:
    for machine in ("../volumes", "", "148e21dad76789/stop", "148e21dad7678\n"):
        with pytest.raises(api_types.ApiError, match="no id of a machine"):
            await api.get(machine)
    with pytest.raises(api_types.ApiError, match="no key of metadata"):
        await api.set_metadata("148e21dad76789", "a/b", "x")
    with pytest.raises(api_types.ApiError, match="no name of a machine"):
        await api.create({}, region="", name="a b")
    with pytest.raises(api_types.ApiError, match="no name of an app"):
        MachinesApi("a/b", {"FLY_API_TOKEN": "x"})


def test_the_address_follows_where_we_are() -> None:
    assert api_http.base_url({}) == "https://api.machines.dev"
    assert api_http.base_url({"FLY_MACHINE_ID": "148e21dad76789"}) == "http://_api.internal:4280"
    assert api_http.base_url({"FLY_FLAPS_BASE_URL": "http://127.0.0.1:4280/"}) == "http://127.0.0.1:4280"
    for wrong in ("peer", "ftp://x", "http://", "http://x:99999"):
        with pytest.raises(api_types.ApiError, match="FLY_FLAPS_BASE_URL"):
            api_http.base_url({"FLY_FLAPS_BASE_URL": wrong})
