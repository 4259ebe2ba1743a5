"""A run whose lease is in doubt, ends by itself, or is held by another machine."""

import asyncio

import pytest

from fakes.stage import UP, Stage
from flyatc.kit import tasks
from flyatc.kit.errors import HeldElsewhere, OwnershipUnknown
from flyatc.tenants.errors import Elsewhere, NoSuchUser, Unsafe

pytestmark = pytest.mark.looptime


async def test_the_app_is_killed_at_once_when_the_ownership_ends() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(stay=1000), "visitor")
    await asyncio.sleep(3)
    stage.owned.expire(lost=False)
    await asyncio.sleep(0.01)
    assert stage.story["a"] == [*UP, "drain", "-gateway", "-app!", "-db", "saved", "-owner!"]
    assert stage.status().state == "stopped"
    visitor.cancel()


async def test_a_start_is_cut_short_when_the_lease_ends_and_waiting_requests_get_the_next_run() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    first = stage.owned
    first.expire(lost=False)
    await visitor
    assert stage.owned is not first
    assert stage.story["a"] == ["+owner", "+db", "+app", "-app!", "-db", "saved", "-owner!", *UP]


@pytest.mark.parametrize("step", ["restore", "spawn", "ready"])
async def test_a_request_waiting_for_a_start_whose_lease_ends_leaves_it_the_time_to_give_back(step: str) -> None:
    stage = Stage()
    stage.takes = {step: 5.0, "save": 3.0, "disown": 2.0}
    visitors = [tasks.start(stage.visit(), "visitor") for _ in range(3)]
    await asyncio.sleep(1)
    stage.owned.expire(lost=False)
    stage.takes = {"save": 3.0, "disown": 2.0}
    async with asyncio.timeout(60):
        await asyncio.gather(*visitors)
    assert stage.story["a"][-len(UP) :] == UP


async def test_a_request_waits_while_the_lease_is_in_doubt() -> None:
    stage = Stage()
    await stage.visit()
    stage.owned.doubted.set()
    assert stage.tenant().visit() is None
    waiting = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(2)
    assert not waiting.done()
    stage.owned.doubted.clear()
    await waiting
    assert stage.story["a"] == UP


async def test_a_request_waiting_in_doubt_is_served_by_the_next_run_when_this_one_ends() -> None:
    stage = Stage()
    await stage.visit()
    stage.owned.doubted.set()
    waiting = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    stage.owned.expire(lost=False)
    await waiting
    assert stage.story["a"][-len(UP) :] == UP


async def test_an_expired_lease_admits_no_request_even_before_that_is_noticed() -> None:
    stage = Stage()
    await stage.visit()
    stage.owned.may = False
    assert stage.tenant().visit() is None


async def test_what_another_machine_holds_is_refused_with_its_name_and_asked_again_soon() -> None:
    stage = Stage()
    stage.faults["own"] = HeldElsewhere("shop/3d8dd15c", "a is held by shop/3d8dd15c")
    for _ in range(2):
        with pytest.raises(Elsewhere) as refused:
            await stage.visit()
        assert refused.value.owner == "shop/3d8dd15c"
    del stage.faults["own"]
    await asyncio.sleep(2)
    await stage.visit()
    assert stage.story["a"] == UP
    assert [event["msg"] for event in stage.events if "owner" in event] == ["served elsewhere"]


async def test_what_is_cached_of_a_user_is_dropped_once_another_machine_has_the_lease() -> None:
    stage = Stage()
    await stage.visit()
    await stage.fleet.stop("a")
    await stage.visit()
    assert stage.forgotten == [], "this machine had it before"
    await stage.fleet.stop("a")
    stage.faults["own"] = HeldElsewhere("shop/3d8dd15c", "a is held by shop/3d8dd15c")
    for _ in range(2):
        with pytest.raises(Elsewhere):
            await stage.visit()
        await asyncio.sleep(3)
    assert stage.forgotten == ["a"]
    del stage.faults["own"]
    await stage.visit()
    assert stage.forgotten == ["a"]


async def test_what_is_cached_of_a_user_is_dropped_when_another_machine_has_had_the_lease_in_between() -> None:
    stage = Stage()
    await stage.visit()
    await stage.fleet.stop("a")
    stage.epoch = 5
    await stage.visit()
    assert stage.forgotten == ["a"]
    await stage.fleet.stop("a")
    await stage.visit()
    assert stage.forgotten == ["a"]


async def test_another_holder_may_be_forgotten_at_once_also_while_that_run_gives_back() -> None:
    stage = Stage()
    held = HeldElsewhere("shop/3d8dd15c", "a is held by shop/3d8dd15c")
    stage.faults["own"] = held
    with pytest.raises(Elsewhere):
        await stage.visit()
    del stage.faults["own"]
    await stage.tenant().look_again()
    await stage.visit()
    assert stage.story["a"] == UP
    await stage.tenant().look_again()
    assert stage.status().state == "ready", "there is nothing to forget"


async def test_a_store_which_does_not_return_the_lease_record_starts_nothing() -> None:
    stage = Stage()
    stage.faults["own"] = OwnershipUnknown("the store does not answer")
    with pytest.raises(Unsafe, match="does not answer"):
        await stage.visit()
    assert stage.story.get("a", []) == []


async def test_of_a_removed_user_nothing_is_started_and_the_store_is_asked_again_after_a_while() -> None:
    stage = Stage()
    stage.faults["own"] = HeldElsewhere("", "a was removed", removed=True)
    for _ in range(3):
        with pytest.raises(NoSuchUser, match="was removed"):
            await stage.visit()
    del stage.faults["own"]
    with pytest.raises(NoSuchUser):
        await stage.visit()
    await asyncio.sleep(2)
    await stage.visit()
    assert stage.story["a"] == UP
    assert [event["msg"] for event in stage.events if "removed" in str(event)] == ["the user was removed"]
