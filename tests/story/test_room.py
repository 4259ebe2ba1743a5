"""``limits.running``."""

import asyncio

import pytest

from fakes.stage import Stage, make_config
from flyatc.kit import tasks
from flyatc.tenants.errors import Full
from flyatc.tenants.lifecycle import State

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_three_hundred_tenants_one_after_another_never_run_more_than_ten() -> None:
    names = [f"u{n}" for n in range(300)]
    stage = Stage(make_config(*names, running=10))
    stage.takes = {"ready": 0.5, "end": 0.1, "save": 0.1}
    for name in names:
        await stage.visit(name)
    assert stage.most_running == 10
    assert [one.tenant for one in stage.fleet.status() if one.state is State.READY] == names[-10:]


async def test_three_hundred_tenants_at_once_never_run_more_than_ten_and_all_are_served() -> None:
    names = [f"u{n}" for n in range(300)]
    stage = Stage(make_config(*names, running=10))
    stage.takes = {"ready": 0.5, "end": 0.1, "save": 0.1}
    await asyncio.gather(*(stage.visit(name) for name in names))
    assert stage.most_running == 10
    assert len(stage.children) == 300


async def test_the_least_recently_used_idle_tenant_makes_room() -> None:
    stage = Stage(make_config("a", "b", "c", running=2))
    await stage.visit("a")
    await stage.visit("b")
    await asyncio.sleep(1)
    await stage.visit("a")
    await stage.visit("c")
    assert [stage.status(name).state for name in "abc"] == ["ready", "stopped", "ready"]
    assert "another tenant needs its place" in [e.get("why") for e in stage.events]


async def test_a_place_is_given_back_only_when_the_app_has_ended_and_is_saved() -> None:
    stage = Stage(make_config("a", "b", running=1))
    stage.takes |= {"end": 5.0, "save": 3.0}
    await stage.visit("a")
    await stage.visit("b")
    assert now() == 2 + 5 + 3 + 2
    assert stage.most_running == 1


async def test_where_none_is_idle_one_waits_until_one_is() -> None:
    stage = Stage(make_config("a", "b", running=1))
    busy = tasks.start(stage.visit("a", stay=20), "busy")
    await asyncio.sleep(5)
    await stage.visit("b")
    assert now() == 2 + 20 + 2
    assert await busy == 1


async def test_where_none_becomes_idle_in_time_it_is_full_and_the_next_request_may_try_again() -> None:
    stage = Stage(make_config("a", "b", running=1, start_timeout=10.0))
    busy = tasks.start(stage.visit("a", stay=100), "busy")
    await asyncio.sleep(5)
    with pytest.raises(Full) as caught:
        await stage.visit("b")
    assert now() == 15
    assert caught.value.retry_after == 5
    await asyncio.sleep(0.1)
    assert stage.status("b").state is State.STOPPED
    await asyncio.sleep(80)
    await stage.visit("b")
    await busy


async def test_who_gives_up_waiting_for_a_place_does_not_take_one() -> None:
    stage = Stage(make_config("a", "b", "c", running=1))
    busy = tasks.start(stage.visit("a", stay=20), "busy")
    await asyncio.sleep(5)
    waiting = tasks.start(stage.visit("b"), "waiting")
    await asyncio.sleep(1)
    waiting.cancel()
    await stage.fleet.stop("b")
    await busy
    await stage.visit("c")
    assert "b" not in stage.story


async def test_one_place_is_not_made_twice() -> None:
    """A second app is not evicted for a visitor whom the first one's end will serve."""
    stage = Stage(make_config("a", "b", "c", "d", running=3))
    stage.takes["end"] = 5
    for name in "abc":
        await stage.visit(name)
    waiting = tasks.start(stage.visit("d"), "d")
    await asyncio.sleep(1)
    await stage.visit("b")
    await stage.visit("c")
    await waiting
    assert [stage.status(name).state for name in "abcd"] == ["stopped", "ready", "ready", "ready"]


async def test_saving_alone_needs_no_place_and_is_not_mistaken_for_one() -> None:
    stage = Stage(make_config("a", "b", "c", running=1))
    stage.takes["save", "c"] = 500
    recovering = tasks.start(stage.fleet.recover(["c"]), "recover")
    await stage.visit("a")
    await stage.visit("b")
    assert now() == 4
    assert not recovering.done()
    recovering.cancel()


async def test_a_smaller_limit_evicts_who_is_idle_and_a_larger_one_lets_waiters_in() -> None:
    stage = Stage(make_config("a", "b", "c", running=3))
    for name in "abc":
        await stage.visit(name)
    stage.fleet.apply(make_config("a", "b", "c", running=1))
    await asyncio.sleep(1)
    assert [stage.status(name).state for name in "abc"] == ["stopped", "stopped", "ready"]
    busy = tasks.start(stage.visit("c", stay=100), "busy")
    waiting = tasks.start(stage.visit("a"), "waiting")
    await asyncio.sleep(1)
    stage.fleet.apply(make_config("a", "b", "c", running=2))
    await waiting
    assert now() == 6 + 1 + 1 + 2
    await busy


async def test_a_slow_start_delays_nobody_else() -> None:
    stage = Stage()
    stage.takes["restore", "a"] = 50
    slow = tasks.start(stage.visit("a"), "slow")
    await asyncio.sleep(1)
    await stage.visit("b")
    assert now() == 3
    await slow
    assert now() == 52
