"""The simulator's Machines API, by https://fly.io/docs/machines/api/machines-resource/."""

import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fakes.fly import Fly, small_fly
from flyatc.sim.types import Faults


@pytest_asyncio.fixture
async def fly(tmp_path: Path) -> AsyncIterator[Fly]:
    async with small_fly(tmp_path) as one:
        yield one


async def test_machines_are_listed_in_any_state_and_found_by_metadata_and_region(fly: Fly) -> None:
    await fly["m2"].stop()
    (found,) = (await fly.api("GET", "?metadata.customer_id=200")).json
    record = fly["m2"].record
    assert (found["id"], found["state"], found["private_ip"]) == (record.id, "stopped", record.address)
    assert found["config"]["metadata"] == {"customer_id": "200"}
    assert [one["name"] for one in (await fly.api("GET", "?region=iad")).json] == ["m1"]
    assert (await fly.api("GET", "?metadata.customer_id=9")).json == []


async def test_a_machine_sleeps_and_wakes(fly: Fly) -> None:
    path = f"/{fly.id('m1')}"
    version = (await fly.api("GET", path)).json["instance_id"]
    assert (await fly.api("POST", f"{path}/suspend")).json == {"ok": True}
    assert (await fly.api("GET", f"{path}/wait?state=suspended")).status == 200
    started = await fly.api("POST", f"{path}/start")
    assert started.json == {"previous_state": "suspended", "migrated": False, "new_host": False}
    assert (await fly.api("POST", f"{path}/stop", {"signal": "SIGTERM"})).status == 200
    assert (await fly.api("GET", f"{path}/wait?state=stopped")).status == 400
    assert (await fly.api("GET", f"{path}/wait?state=stopped&instance_id={version}")).status == 200
    late = await fly.api("GET", f"{path}/wait?state=started&timeout=0.05")
    assert (late.status, late.json["error"][:17]) == (408, "deadline_exceeded")
    assert (await fly.api("POST", f"{path}/suspend")).status == 412


async def test_a_new_machine_has_metadata_and_serves(fly: Fly) -> None:
    wanted = {"region": "syd", "config": {"image": "x", "metadata": {"customer_id": "300"}}}
    made = (await fly.api("POST", "", wanted)).json
    assert (made["state"], made["region"], made["config"]["metadata"]) == ("created", "syd", {"customer_id": "300"})
    assert (await fly.api("GET", f"/{made['id']}/wait?state=started")).status == 200
    assert (await fly.visit("/", fly_force_instance_id=made["id"])).json["machine"] == made["id"]
    assert (await fly.api("DELETE", f"/{made['id']}")).status == 412
    assert (await fly.api("DELETE", f"/{made['id']}?force=true")).json == {"ok": True}
    assert (await fly.api("GET", f"/{made['id']}")).status == 404


async def test_what_cannot_be_made_is_refused(fly: Fly) -> None:
    assert (await fly.api("POST", "", {"region": "iad"})).status == 400
    full = await fly.api("POST", "", {"region": "gru", "config": {"image": "x"}})
    assert (full.status, "insufficient_capacity" in full.json["error"]) == (422, True)
    assert (await fly.api("POST", "", {"name": "m1", "config": {"image": "x"}})).status == 409


async def test_metadata_change_without_a_restart(fly: Fly) -> None:
    path = f"/{fly.id('m1')}/metadata"
    assert (await fly.api("POST", f"{path}/customer_id", {"value": "7"})).status == 204
    assert (await fly.api("POST", f"{path}/plan", {"value": "free"})).body == b""
    assert (await fly.api("GET", path)).json == {"customer_id": "7", "plan": "free"}
    assert (await fly.api("DELETE", f"{path}/plan")).status == 204
    assert fly["m1"].record.metadata == {"customer_id": "7"}
    assert fly["m1"].state == "started"


async def test_calls_beyond_the_rate_limit_get_429(fly: Fly) -> None:
    path = f"/{fly.id('m1')}/start"
    assert [(await fly.api("POST", path)).status for _ in range(4)] == [200, 200, 200, 429]
    assert (await fly.api("GET", f"/{fly.id('m1')}")).status == 200, "each action has a limit of its own"


async def test_a_cordoned_machine_gets_no_clients(fly: Fly) -> None:
    assert (await fly.api("POST", f"/{fly.id('m1')}/cordon")).status == 200
    assert (await fly.visit("/")).json["machine"] == fly.id("m2")
    assert (await fly.api("POST", f"/{fly.id('m1')}/uncordon")).status == 200
    assert (await fly.visit("/")).json["machine"] == fly.id("m1")


async def test_strangers_and_unknown_paths_are_refused(fly: Fly) -> None:
    assert (await fly.api("GET", "", token="wrong")).status == 401
    assert (await fly.api("GET", "/nonesuch")).json == {"error": "machine not found"}
    assert (await fly.api("POST", f"/{fly.id('m1')}/signal")).status == 404


async def test_the_api_can_be_made_to_fail(fly: Fly) -> None:
    fly.simulator.break_things(Faults(api="503"))
    assert (await fly.api("GET", "")).status == 503
    fly.simulator.break_things(Faults(api="away"))
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        await fly.api("GET", "")


async def test_machines_outlive_the_simulator_with_their_disks(tmp_path: Path) -> None:
    async with small_fly(tmp_path, 1) as fly:
        before = fly["m1"].record.id
    async with small_fly(tmp_path, 2) as fly:
        assert fly["m1"].record.id == before
        assert fly["m1"].state == fly["m2"].state == "started"
