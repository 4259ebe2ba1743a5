"""Idle tenants are stopped, used ones are not, and no request ever meets the gap between."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from fakes.stage import DOWN, UP, Stage, changed, make_config
from flyatc.kit import tasks
from flyatc.kit.types import Work
from flyatc.tenants.state import State

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def sweeping() -> AsyncIterator[list[asyncio.Task[None]]]:
    sweeps: list[asyncio.Task[None]] = []
    yield sweeps
    for sweep in sweeps:
        sweep.cancel()
    await asyncio.gather(*sweeps, return_exceptions=True)


async def test_an_idle_tenant_is_saved_and_stopped(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=300.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    await asyncio.sleep(5)
    await stage.visit(stay=10)
    assert stage.status().idle_at == "2027-01-15T08:05:17.000000Z"
    await asyncio.sleep(299.9)
    assert stage.status().state is State.READY
    await asyncio.sleep(0.2)
    assert stage.status().state is State.STOPPED
    assert stage.story["a"] == [*UP, "drain", *DOWN]
    why = next(e["why"] for e in stage.events if e.get("state") == "draining")
    assert why == "no request for 5 min"


async def test_each_visit_puts_the_stop_off(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=10.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    for _ in range(20):
        await stage.visit()
        await asyncio.sleep(9)
    assert len(stage.children) == 1


async def test_a_long_visit_is_never_idle(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=10.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    assert await stage.visit(stay=10_000) == 1
    assert stage.states()[-1] == "ready"


async def test_idle_zero_means_never(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=0.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    await stage.visit()
    await asyncio.sleep(100_000)
    assert stage.status().state is State.READY
    assert stage.status().idle_at is None


async def test_an_app_whose_client_left_while_it_started_becomes_idle(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=10.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    visitor.cancel()
    await asyncio.sleep(1 + 10.1)
    assert stage.status().state is State.STOPPED


async def test_a_request_that_waited_for_the_start_is_served_though_a_sweep_comes_in_the_turn_of_ready() -> None:
    """Those who wait must already count as visitors: between READY and their wake-up a sweep may look."""
    stage = Stage(make_config("a", idle=0.001, drain_timeout=0.0))
    swept = []

    def look(step: str, tenant: str) -> None:
        if step == "gateway":
            asyncio.get_running_loop().call_soon(lambda: swept.append(stage.fleet._scheduler._evict(newcomer=False)))
            swept.append(stage.fleet._scheduler._evict(newcomer=False))

    stage.at_step = look
    assert await stage.visit(stay=1) == 1
    assert swept == [False, False]


async def test_a_client_that_races_an_idle_stop_waits_for_the_next_run(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=10.0))
    stage.takes |= {"end": 3.0, "save": 4.0}
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    await stage.visit()
    await asyncio.sleep(11)
    assert stage.status().state is State.SAVING
    assert await stage.visit() == 2
    assert now() == 12 + 7 + 2
    assert stage.story["a"] == [*UP, "drain", *DOWN, *UP]


async def test_no_client_is_refused_in_a_storm_of_visits_and_sweeps(sweeping: list[asyncio.Task[None]]) -> None:
    chance = random.Random(7)
    names = [f"u{n}" for n in range(6)]
    stage = Stage(make_config(*names, idle=0.02, running=3))
    stage.takes = {"restore": 0.003, "ready": 0.01, "end": 0.005, "save": 0.004}
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))

    async def visitor(left: int = 60) -> None:
        while left:
            left -= 1
            await asyncio.sleep(chance.choice([0.0, 0.001, 0.0199999, 0.02, 0.05]))
            assert await stage.visit(chance.choice(names), stay=chance.choice([0.0, 0.001, 0.01]))

    async def leaver(left: int = 60) -> None:
        while left:
            left -= 1
            visit = tasks.start(stage.visit(chance.choice(names), stay=0.01), "leaver")
            await asyncio.sleep(chance.choice([0.0, 0.001, 0.013, 0.02]))
            visit.cancel()
            await asyncio.gather(visit, return_exceptions=True)
            assert visit.cancelled() or visit.exception() is None

    await asyncio.gather(*(visitor() for _ in range(40)), *(leaver() for _ in range(10)))
    assert stage.most_running <= 3
    assert len(stage.children) > 30
    assert stage.fleet._scheduler.requests.count == 0
    await asyncio.sleep(1)
    assert stage.running == 0
    assert all(one.requests == 0 and one.state is State.STOPPED for one in stage.fleet.status())


# --- reload ---


async def test_a_changed_tenant_restarts_when_it_is_quiet_and_the_others_keep_their_app(
    sweeping: list[asyncio.Task[None]],
) -> None:
    stage = Stage()
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    visitor = tasks.start(stage.visit(stay=50), "visitor")
    await asyncio.sleep(1)
    await stage.visit("b")
    await asyncio.sleep(10)
    stage.fleet.apply(changed(stage.config, "a", env={"NEW": "1"}))
    await asyncio.sleep(10)
    assert stage.status().restart_pending
    assert stage.status().pid == 1
    assert await visitor == 1
    await asyncio.sleep(4)
    status = stage.status()
    assert (status.state, status.pid, status.restart_pending) == (State.READY, 3, False)
    assert stage.status("b").pid == 2


async def test_an_idle_changed_tenant_restarts_though_it_is_never_idle(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=0.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    await stage.visit()
    await asyncio.sleep(100)
    stage.fleet.apply(changed(stage.config, "a", env={"NEW": "1"}))
    await asyncio.sleep(2.1)
    assert stage.status().pid == 2


async def test_an_app_that_works_without_requests_runs_on_until_its_work_ends(
    sweeping: list[asyncio.Task[None]],
) -> None:
    stage = Stage(make_config("a", idle=300.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    stage.work = lambda tenant: Work({(1, 1): 0.2 * min(now(), 1000.0)}, {})  # it works until 1000
    await stage.visit()
    await asyncio.sleep(310)
    assert stage.status().busy == "its processes use 20% of a core"
    assert stage.fleet.quiet_for() == 0.0, "the machine does not sleep meanwhile"
    await asyncio.sleep(990 - now())
    assert stage.status().state is State.READY
    await asyncio.sleep(600)
    assert stage.status().state is State.STOPPED
    assert stage.status().busy is None
    assert stage.fleet.quiet_for() > 0
    assert len(stage.looks) == 6, "at half of the time, and at each end"
    said = [e["why"] for e in stage.events if e["msg"] == "kept running without requests"]
    assert said == ["its processes use 20% of a core"], "once"


async def test_an_app_that_never_rests_is_stopped_after_idle_most(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=10.0, idle_most=100.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    stage.work = lambda tenant: Work({(1, 1): now()}, {})
    await stage.visit()
    await asyncio.sleep(99.5)
    assert stage.status().state is State.READY
    await asyncio.sleep(1)
    assert stage.status().state is State.STOPPED
    why = next(e["why"] for e in stage.events if e.get("state") == "draining")
    assert why == "no request for 1 min 40 s (idle_most); its processes use 100% of a core"


async def test_only_what_is_due_is_looked_at(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", "b", "c", idle=10.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    for _ in range(20):  # a is used all the time, b once
        await stage.visit("a")
        await asyncio.sleep(4)
    await stage.visit("b")
    await asyncio.sleep(11)
    assert [tenant for tenant, _ in stage.looks] == ["a", "a", "b", "b"]


async def test_an_app_whose_work_cannot_be_seen_is_stopped_when_no_request_came(
    sweeping: list[asyncio.Task[None]],
) -> None:
    stage = Stage(make_config("a", idle=10.0))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    stage.faults["look"] = PermissionError("not shown")
    await stage.visit()
    await asyncio.sleep(16)
    assert stage.status().state is State.STOPPED
    stage.faults.clear()
    stage.takes["look"] = 1e9  # it hangs
    await stage.visit()
    await asyncio.sleep(40)
    assert stage.status().state is State.STOPPED


async def test_a_stop_for_another_reason_does_not_wait_for_work(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", "b", idle=300.0, running=1))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    stage.work = lambda tenant: Work({(1, 1): now()}, {})
    await stage.visit("a")
    await asyncio.sleep(301)
    assert stage.status("a").busy is not None
    await stage.visit("b")
    assert stage.status("a").state is State.STOPPED
    assert stage.story["a"] == [*UP, "drain", *DOWN], "with its grace"


async def test_with_requests_alone_nothing_is_looked_at(sweeping: list[asyncio.Task[None]]) -> None:
    stage = Stage(make_config("a", idle=10.0, idle_counts=["requests"]))
    sweeping.append(tasks.start(stage.fleet.sweep(), "sweep"))
    stage.work = lambda tenant: Work({(1, 1): now()}, {})
    await stage.visit()
    await asyncio.sleep(10.1)
    assert (stage.status().state, stage.looks) == (State.STOPPED, [])
