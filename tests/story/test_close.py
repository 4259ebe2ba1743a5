"""The daemon shuts down."""

import asyncio

import pytest

from fakes.stage import DOWN, SAVES, UP, Stage, make_config, save_failed
from flyatc.kit import tasks
from flyatc.tenants.errors import Stopping
from flyatc.tenants.state import State

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_all_are_stopped_and_saved_in_parallel() -> None:
    names = [f"u{n}" for n in range(20)]
    stage = Stage(make_config(*names))
    stage.takes |= {"end": 3.0, "save": 2.0}
    await asyncio.gather(*(stage.visit(name) for name in names))
    assert await stage.fleet.close(25)
    assert now() == 2 + 5
    assert all(stage.story[name] == [*UP, "drain", *DOWN] for name in names)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_no_request_is_let_in_any_more_and_waiting_ones_get_the_reason() -> None:
    stage = Stage()
    waiting = tasks.start(stage.visit("a"), "waiting")
    await asyncio.sleep(1)
    closing = tasks.start(stage.fleet.close(25), "close")
    with pytest.raises(Stopping):
        await waiting
    with pytest.raises(Stopping):
        await stage.visit("b")
    assert await closing
    assert stage.status("a").state is State.STOPPED


@pytest.mark.parametrize(("deadline", "drained"), [(100.0, 60.0), (25.0, 10.0), (10.0, 2.5)])
async def test_the_drain_leaves_time_to_end_and_to_save(deadline: float, drained: float) -> None:
    stage = Stage(make_config("a", drain_timeout=60.0, stop_grace=10.0))
    visitor = tasks.start(stage.visit(stay=1000), "visitor")
    await asyncio.sleep(3)
    assert await stage.fleet.close(deadline)
    assert now() == 3 + drained
    visitor.cancel()


async def test_a_drain_under_way_is_shortened_too() -> None:
    stage = Stage(make_config("a", drain_timeout=600.0))
    visitor = tasks.start(stage.visit(stay=1000), "visitor")
    await asyncio.sleep(3)
    stopping = tasks.start(stage.fleet.stop("a"), "stop")
    await asyncio.sleep(1)
    assert await stage.fleet.close(25)
    assert now() == 4 + 10
    await stopping
    visitor.cancel()


async def test_a_second_signal_cuts_drain_and_grace() -> None:
    stage = Stage(make_config("a", drain_timeout=60.0))
    visitor = tasks.start(stage.visit(stay=1000), "visitor")
    await asyncio.sleep(3)
    asyncio.get_running_loop().call_later(1, stage.fleet.hurry)
    assert await stage.fleet.close(100)
    assert now() == 4
    assert stage.story["a"][-4:] == ["-app!", "-db", "saved", "-owner"]
    visitor.cancel()


async def test_near_the_deadline_it_hurries_by_itself() -> None:
    stage = Stage(make_config("a"))
    await stage.visit()
    hurried = []

    def look(step: str, tenant: str) -> None:
        if step == "end":
            asyncio.get_running_loop().call_later(19.9, lambda: hurried.append(stage.fleet._scheduler.hurry.is_set()))
            asyncio.get_running_loop().call_later(20.1, lambda: hurried.append(stage.fleet._scheduler.hurry.is_set()))

    stage.at_step = look
    stage.takes["end"] = 21.0
    assert await stage.fleet.close(25)
    assert hurried == [False, True]


async def test_a_save_that_hangs_is_cut_at_the_deadline_and_reported() -> None:
    stage = Stage()
    await stage.visit("a")
    await stage.visit("b")
    stage.takes["save", "a"] = 1000
    assert not await stage.fleet.close(25)
    assert now() <= 4 + 25
    assert (stage.status("a").unsaved, stage.status("b").unsaved) == (True, False)


@pytest.mark.parametrize(("seconds", "saved"), [(24.5, True), (30.0, False)])
async def test_a_run_that_is_cut_after_its_save_is_saved_once_its_user_is_released(seconds: float, saved: bool) -> None:
    stage = Stage()
    await stage.visit()
    stage.takes["disown"] = seconds
    assert await stage.fleet.close(25) is saved
    assert (stage.story["a"][-1] == "-owner") is saved
    assert not [one for one in stage.events if one["msg"].startswith("not saved")]
    assert not stage.status().unsaved


async def test_a_save_that_fails_is_tried_again_within_the_time() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    asyncio.get_running_loop().call_later(6, stage.faults.clear)
    assert await stage.fleet.close(25)
    assert now() < 2 + 20


async def test_a_save_that_goes_on_failing_is_given_up_near_the_deadline() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    assert not await stage.fleet.close(25)
    assert now() == 2 + 20
    stage.faults.clear()


async def test_what_was_unsaved_before_is_saved_too() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    await asyncio.gather(stage.fleet.stop("a"), return_exceptions=True)
    stage.faults.clear()
    assert await stage.fleet.close(25)
    assert now() == 2
    assert stage.story["a"][-5:] == SAVES


async def test_a_fleet_that_does_nothing_is_closed_at_once() -> None:
    assert await Stage().fleet.close(25)
    assert now() == 0


async def test_what_had_to_be_sent_again_is_shown_also_when_the_tenant_has_stopped() -> None:
    stage = Stage()
    await stage.visit("a")
    assert stage.status("a").renewed == {}
    stage.renewed["app.sqlite3"] = "page 7 is not as in the local database"
    assert stage.status("a").renewed == stage.renewed
    assert await stage.fleet.close(25)
    assert stage.status("a").renewed == stage.renewed
