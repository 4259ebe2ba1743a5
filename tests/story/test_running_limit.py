"""``limits.running``."""

import asyncio
import contextlib

import pytest

from fakes.stage import Stage, make_config
from flyatc.kit import tasks
from flyatc.tenants.errors import Full
from flyatc.tenants.state import State

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


async def test_a_waiter_that_gives_up_does_not_take_a_place() -> None:
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
    """A second app is not evicted for a visitor that the first one's end will serve."""
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


async def test_a_smaller_limit_evicts_idle_tenants_and_a_larger_one_lets_waiters_in() -> None:
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


async def test_a_slow_start_delays_no_other_tenant() -> None:
    stage = Stage()
    stage.takes["restore", "a"] = 50
    slow = tasks.start(stage.visit("a"), "slow")
    await asyncio.sleep(1)
    await stage.visit("b")
    assert now() == 3
    await slow
    assert now() == 52


# --- users of "*" of which nothing is on record ---


async def listed_and_a_crawler(names: int, running: int = 3) -> Stage:
    """Two listed tenants run and are idle, then names are made up, one after the other."""
    stage = Stage(make_config("a", "b", running=running, pattern="u[0-9]+"))
    stage.takes = {"ready": 0.1}
    stage.on_record = {"a", "b"}
    for user in ("a", "b"):
        await stage.visit(user)
    for number in range(names):
        await asyncio.sleep(1)
        await stage.visit(f"u{number}")
    return stage


async def test_made_up_names_take_places_from_each_other_only() -> None:
    stage = await listed_and_a_crawler(50)
    assert [stage.status(user).state for user in ("a", "b", "u49")] == ["ready"] * 3
    assert len(stage.story["a"]) == len(stage.story["b"]) == 4, "they were started once"


async def test_where_all_places_are_taken_a_newcomer_waits_and_then_gets_503_with_retry_after() -> None:
    stage = Stage(make_config("a", "b", running=2, pattern="u[0-9]+"))
    stage.on_record = {"a", "b"}
    await asyncio.gather(stage.visit("a"), stage.visit("b"))
    with pytest.raises(Full):
        await stage.visit("u1")
    assert [stage.status(user).state for user in ("a", "b")] == ["ready"] * 2


async def test_a_listed_user_takes_the_place_of_a_newcomer_and_waits_before_others() -> None:
    stage = Stage(make_config("a", "b", running=1, pattern="u[0-9]+"))
    stage.on_record = {"a", "b"}
    busy = tasks.start(stage.visit("u1", stay=10), "busy")
    await asyncio.sleep(5)
    behind = [tasks.start(stage.visit(f"u{number}"), "newcomer") for number in (2, 3)]
    await asyncio.sleep(1)
    await stage.visit("a")
    assert "u2" not in stage.story
    assert now() < 20
    for one in (busy, *behind):
        one.cancel()


async def test_a_user_of_the_pattern_with_something_on_record_is_no_newcomer() -> None:
    stage = Stage(make_config("a", running=1, pattern="u[0-9]+"))
    stage.on_record = {"a", "u1"}
    await stage.visit("a")
    await stage.visit("u1")
    assert stage.status("u1").state == "ready"


async def test_starts_for_made_up_names_are_bounded_and_those_for_known_users_are_not() -> None:
    stage = Stage(make_config("a", running=1000, pattern="[uk][0-9]+"))
    stage.takes = {"ready": 0.0}
    stage.on_record = {"a", *(f"k{number}" for number in range(500))}
    answers = await asyncio.gather(*(stage.visit(f"k{number}") for number in range(90)), return_exceptions=True)
    assert [one for one in answers if isinstance(one, BaseException)] == []
    served = 0
    for number in range(500):
        with contextlib.suppress(Full):
            await stage.visit(f"u{number}")
            served += 1
    assert 100 <= served < 110, "at once, and then a few a second"
    await asyncio.sleep(10)
    await stage.visit("u999")
    await stage.visit("a")


async def test_known_users_are_served_though_names_are_made_up_all_the_time() -> None:
    stage = Stage(make_config("a", running=1000, pattern="[uk][0-9]+"))
    stage.takes = {"ready": 0.0}
    stage.on_record = {"a", *(f"k{number}" for number in range(300))}
    for number in range(300):
        with contextlib.suppress(Full):
            await stage.visit(f"u{number}")
    with pytest.raises(Full):
        await stage.visit("u300")
    answers = await asyncio.gather(*(stage.visit(f"k{number}") for number in range(40)), return_exceptions=True)
    assert [one for one in answers if isinstance(one, BaseException)] == []
