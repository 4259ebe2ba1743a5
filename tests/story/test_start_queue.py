"""``limits.starting``: the queue in which cold starts wait for their turn."""

import asyncio
import math

import msgspec
import pytest

from fakes.stage import Stage, make_config, start_failed
from flyatc.kit import tasks
from flyatc.tenants import start_queue
from flyatc.tenants.errors import NotReadyInTime, Queued, Stopping
from flyatc.tenants.start_queue import IDLE_LOOKS, KEPT, LATE, LOOK, StartQueue

pytestmark = pytest.mark.looptime

READY = 2.0  # s; what a start takes on the stage


def now() -> float:
    return asyncio.get_running_loop().time()


def herd(size: int, **more: int) -> tuple[Stage, list[str]]:
    names = [f"u{n}" for n in range(size)]
    return Stage(make_config(*names, **more)), names  # type: ignore[arg-type]


async def leave(visit: "asyncio.Task[int]") -> None:
    visit.cancel()
    await asyncio.wait([visit])


async def test_eighty_first_visits_at_once_start_two_at_a_time_in_the_order_of_their_coming() -> None:
    stage, names = herd(80, starting=2)
    stage.takes["ready"] = 1.0
    await asyncio.gather(*map(stage.visit, names))
    assert stage.most_starting == 2
    assert [e["tenant"] for e in stage.events if e.get("state") == "starting"] == names
    assert now() == 40


async def test_a_start_that_needs_no_turn_does_not_wait_and_is_never_queued() -> None:
    stage, names = herd(3, starting=2)
    await asyncio.gather(*map(stage.visit, names[:2]))
    assert "queued" not in stage.states(names[0])
    busy = [tasks.start(stage.visit(name), "cold") for name in names]
    await asyncio.sleep(0.1)
    before = now()
    await stage.visit(names[0])
    assert now() == before, "a warm tenant is visited as ever"
    await asyncio.gather(*busy)


async def test_the_place_in_line_is_in_the_state_the_status_and_the_log() -> None:
    stage, names = herd(4, starting=1)
    visits = [tasks.start(stage.visit(name), "cold") for name in names]
    await asyncio.sleep(READY / 2)
    assert [stage.status(name).state for name in names] == ["starting", "queued", "queued", "queued"]
    assert [stage.status(name).queued for name in names] == [None, 1, 2, 3]
    assert [e["why"] for e in stage.events if e.get("state") == "queued"][2].startswith("place 3 in line")
    await asyncio.sleep(READY)
    assert [stage.status(name).queued for name in names] == [None, None, 1, 2]
    await asyncio.gather(*visits)
    assert stage.states(names[3]) == ["owning", "restoring", "queued", "starting", "ready"]


async def test_start_timeout_counts_from_the_start_and_not_from_the_wait_in_line() -> None:
    stage, names = herd(5, starting=1)
    stage.takes["ready"] = 50.0  # start_timeout is 60 s
    config = stage.config
    slow = tasks.start(stage.fleet.start(names[0]), "operator")
    await asyncio.sleep(1)
    late = tasks.start(stage.visit(names[1]), "cold")
    await slow
    assert stage.status(names[1]).state == "starting"
    await late
    assert now() == 100
    assert config.tenants[names[1]].app.start_timeout == 60


async def test_a_start_that_takes_too_long_fails_by_its_own_time_and_the_next_begins() -> None:
    stage, names = herd(2, starting=1)
    stage.takes["ready", names[0]] = math.inf
    first, second = (tasks.start(stage.visit(name), "cold") for name in names)
    with pytest.raises(NotReadyInTime, match="it was starting"):
        await first
    assert now() == 60
    await asyncio.gather(second, return_exceptions=True)
    assert stage.status(names[1]).state == "ready"


async def test_a_start_that_fails_gives_its_turn_to_the_next() -> None:
    stage, names = herd(3, starting=1)
    stage.faults["ready", names[0]] = start_failed()
    stage.faults["spawn", names[1]] = start_failed()
    found = await asyncio.gather(*map(stage.visit, names), return_exceptions=True)
    assert [type(one).__name__ for one in found] == ["Failed", "Failed", "int"]


async def test_a_client_waits_in_line_for_start_timeout_and_gets_its_place() -> None:
    stage, names = herd(3, starting=1)
    stage.takes["ready"] = 50.0
    visits = [tasks.start(stage.visit(name), "cold") for name in names]
    with pytest.raises(Queued) as reported:
        await visits[2]
    assert now() == 60 + LATE
    assert reported.value.place == 1
    assert reported.value.retry_after == 1
    assert await visits[1]
    assert stage.status(names[2]).state == "stopped", "no one has come again within KEPT"
    assert any(e.get("reason") == "no client waits for it any more" for e in stage.events)


async def test_a_client_that_comes_again_in_time_has_kept_its_place() -> None:
    stage, names = herd(3, starting=1)
    stage.takes["ready"] = 20.0
    others = [tasks.start(stage.visit(name), "cold") for name in names[:1]]
    await asyncio.sleep(1)
    tenant = stage.tenant(names[1])
    for _ in range(3):  # a browser that is shown the waiting page, and reloads it
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await tenant.serving(comes_again=True)
        if not others[1:]:
            others.append(tasks.start(stage.visit(names[2]), "cold"))
        await asyncio.sleep(KEPT - 12)
        assert stage.status(names[1]).queued in (1, None)
    await asyncio.gather(*others)
    assert stage.children[1].pid == 2
    assert [e["tenant"] for e in stage.events if e.get("state") == "ready"] == names


async def test_a_client_who_leaves_gives_its_place_up_unless_another_waits_for_the_same() -> None:
    stage, names = herd(4, starting=1)
    first = tasks.start(stage.visit(names[0]), "cold")
    await asyncio.sleep(0)
    alone, shared, shared_too, last = (
        tasks.start(stage.visit(name), "cold") for name in (names[1], names[2], names[2], names[3])
    )
    await asyncio.sleep(0.5)
    assert stage.status(names[3]).queued == 3
    await leave(alone)
    await leave(shared)
    await asyncio.sleep(0.1)
    assert stage.status(names[1]).state == "stopped"
    assert [stage.status(name).queued for name in names[2:]] == [1, 2]
    await asyncio.gather(first, shared_too, last)
    assert stage.status(names[1]).starts == 0
    assert stage.story[names[1]] == ["+owner", "+db", "-db", "saved", "-owner"]


async def test_a_client_who_leaves_before_the_line_is_reached_has_no_place_in_it() -> None:
    stage, names = herd(2, starting=1)
    stage.takes["restore", names[1]] = 1.0
    first, second = (tasks.start(stage.visit(name), "cold") for name in names)
    await asyncio.sleep(0.5)
    await leave(second)
    await first
    assert stage.status(names[1]).state == "stopped"


async def test_an_app_that_is_restarted_without_a_client_keeps_its_place() -> None:
    stage, names = herd(2, starting=1)
    await stage.visit(names[1])
    busy = tasks.start(stage.visit(names[0]), "cold")
    await asyncio.sleep(0.5)
    stage.tenant(names[1]).stop("its configuration has changed", again=True)
    await asyncio.sleep(0.5)
    assert stage.status(names[1]).state == "queued"
    await busy
    await asyncio.sleep(READY)
    assert stage.status(names[1]).state == "ready"


async def test_an_app_that_waits_for_something_else_does_not_hold_up_the_others() -> None:
    stage, names = herd(2, starting=1)
    stage.takes["ready", names[0]] = 50.0
    stage.lazy = {names[0]}
    hangs, other = (tasks.start(stage.visit(name), "cold") for name in names)
    await other
    assert now() == IDLE_LOOKS * LOOK + READY
    await hangs
    assert now() == 50


async def test_an_app_that_is_busy_keeps_its_turn_however_long_it_takes() -> None:
    stage, names = herd(2, starting=1)
    stage.takes["ready", names[0]] = 50.0
    await asyncio.gather(*map(stage.visit, names))
    assert now() == 50 + READY


async def test_what_waits_in_line_is_stopped_at_once() -> None:
    stage, names = herd(3, starting=1)
    visits = [tasks.start(stage.visit(name), "cold") for name in names]
    await asyncio.sleep(0.5)
    await stage.fleet.stop(names[1])
    assert now() == 0.5
    assert await stage.fleet.close(30)
    found = await asyncio.gather(*visits, return_exceptions=True)
    assert all(isinstance(one, Stopping) for one in found[1:]) or now() < READY
    assert now() <= READY + 1
    assert stage.running == 0


async def test_a_lease_that_ends_in_line_ends_the_wait() -> None:
    stage, names = herd(2, starting=1)
    first, second = (tasks.start(stage.visit(name), "cold") for name in names)
    await asyncio.sleep(0.5)
    stage.owned.expire(lost=False)  # the last: of the second
    await first
    assert "-owner!" in stage.story[names[1]]
    await second


async def test_a_stop_in_the_turn_of_the_loop_in_which_its_turn_comes_is_not_lost() -> None:
    stage, names = herd(2, starting=1)
    first, second = (tasks.start(stage.visit(name), "cold") for name in names)
    await asyncio.sleep(0.5)

    def at_step(step: str, tenant: str) -> None:
        if step == "is ready" and tenant == names[0]:
            stage.tenant(names[1]).stop("asked to stop")

    stage.at_step = at_step
    await first
    await asyncio.sleep(0.1)
    assert stage.story[names[1]][:5] == ["+owner", "+db", "-db", "saved", "-owner"]
    await second


async def test_a_reload_changes_the_limit_for_those_who_wait() -> None:
    stage, names = herd(5, starting=1)
    visits = [tasks.start(stage.visit(name), "cold") for name in names]
    await asyncio.sleep(0.5)
    limits = msgspec.structs.replace(stage.config.limits, starting=3)
    stage.fleet.apply(msgspec.structs.replace(stage.config, limits=limits))
    await asyncio.sleep(0.1)
    assert [stage.status(name).state for name in names] == ["starting"] * 3 + ["queued"] * 2
    await asyncio.gather(*visits)
    assert stage.most_starting == 3


async def test_the_line_is_as_long_as_limits_running_at_most() -> None:
    stage, names = herd(30, starting=1, running=10)
    visits = [tasks.start(stage.visit(name), "cold") for name in names]
    await asyncio.sleep(0.5)
    states = [one.state.value for one in stage.fleet.status()]
    assert (states.count("starting"), states.count("queued"), states.count("owning")) == (1, 9, 20)
    await asyncio.gather(*visits)


def test_the_default_depends_on_the_cores_we_may_use() -> None:
    assert start_queue.default_limit() >= 1


async def test_a_turn_can_be_given_back_twice() -> None:
    queue = StartQueue(1)
    with queue.turn() as first, queue.turn() as second, queue.turn() as third:
        assert (first.place, second.place, third.place) == (None, 1, 2)
        first.give_back()
        first.give_back()
        assert (second.place, third.place) == (None, 1)
        assert second.granted.is_set()
        assert not third.granted.is_set()


async def test_newcomers_wait_behind_all_others() -> None:
    queue = StartQueue(1)
    with queue.turn(), queue.turn(newcomer=True) as crawler, queue.turn() as listed, queue.turn(newcomer=True) as last:
        assert (listed.place, crawler.place, last.place) == (1, 2, 3)
