"""Finding tenants, commanding them, reloading."""

import asyncio
import gc

import pytest

from fakes.stage import DOWN, SAVES, UP, Stage, changed, make_config, restore_refused, save_failed, start_failed
from flyatc.kit import tasks
from flyatc.kit.errors import RestoreRefused, SaveFailed
from flyatc.tenants.errors import Failed, NoSuchTenant, NotReadyInTime, Removed, Unsafe
from flyatc.tenants.state import State

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_only_what_is_configured_is_found() -> None:
    stage = Stage(make_config("a", "b/2025/winter"))
    fleet = stage.fleet
    assert fleet.find("a", "") is fleet.find("a", "")
    assert fleet.find("b", "2025/winter") is not None
    assert fleet.find("b", "") is None
    assert fleet.find("b/2025", "winter") is None
    assert fleet.find("c", "") is None


async def test_tenants_of_the_pattern_are_made_by_a_visit_and_forgotten_when_stopped_and_saved() -> None:
    stage = Stage(make_config("a", pattern="[0-9]+"))
    for number in range(100):
        await stage.visit(str(number))
    assert len(stage.fleet.status()) == 101
    assert len(stage.fleet.tenants_of_pattern()) == 100
    await asyncio.gather(*(stage.fleet.stop(str(number)) for number in range(100)))
    gc.collect()
    assert [one.tenant for one in stage.fleet.status()] == ["a"]
    assert stage.fleet.tenants_of_pattern() == []


async def test_probing_names_of_the_pattern_leaves_nothing() -> None:
    stage = Stage(make_config("a", pattern="[0-9]+"))
    for number in range(1000):
        found = stage.fleet.find(str(number), "")
        assert found is not None
        assert found.peek() is None
    del found
    gc.collect()
    assert stage.fleet.tenants_of_pattern() == []
    assert stage.fleet.find("x", "") is None


async def test_a_tenant_of_the_pattern_is_remembered_while_it_backs_off_or_owes_a_save() -> None:
    stage = Stage(make_config(pattern="[0-9]+"))
    stage.faults["restore", "1"] = restore_refused()
    stage.faults["save", "2"] = save_failed()
    with pytest.raises(Unsafe):
        await stage.visit("1")
    await stage.visit("2")
    await asyncio.gather(stage.fleet.stop("2"), return_exceptions=True)
    gc.collect()
    assert {one.tenant: one.unsaved for one in stage.fleet.status()} == {"2": True}  # the first one's second is over
    with pytest.raises(Unsafe):
        await stage.visit("1")
    gc.collect()
    assert [one.tenant for one in stage.fleet.status()] == ["1", "2"]
    stage.faults.clear()
    await asyncio.sleep(10)
    gc.collect()
    assert stage.fleet.status() == []


async def test_a_tenant_of_the_pattern_which_crashes_again_and_again_backs_off() -> None:
    stage = Stage(make_config(pattern="[0-9]+"))
    for _ in range(2):
        await stage.visit("1")
        stage.children[-1].die()
        await asyncio.sleep(0.1)
        gc.collect()
    with pytest.raises(Failed, match="again and again"):
        await stage.visit("1")
    await asyncio.sleep(62)
    gc.collect()
    assert stage.fleet.tenants_of_pattern() == []


async def test_a_tenant_found_once_is_the_same_while_it_is_referenced() -> None:
    stage = Stage(make_config(pattern="[0-9]+"))
    held = stage.tenant("1")
    gc.collect()
    visit = await held.serving()
    assert stage.tenant("1") is held
    visit.end()


async def test_status_lists_every_configured_tenant() -> None:
    stage = Stage(make_config("a", "b/x"))
    await stage.visit("a")
    warm, cold = stage.fleet.status()
    assert (warm.tenant, warm.state, warm.pid, warm.port, warm.starts) == ("a", State.READY, 1, 1, 1)
    assert warm.since == "2027-01-15T08:00:02.000000Z"
    assert (cold.tenant, cold.user, cold.state, cold.pid, cold.since) == (
        "b/x",
        "b",
        State.STOPPED,
        None,
        "2027-01-15T08:00:00.000000Z",
    )


async def test_a_status_may_leave_out_the_tenants_that_nothing_has_asked_for() -> None:
    stage = Stage(make_config(*(f"u{number}" for number in range(100)), pattern="x.*"))
    await asyncio.gather(stage.visit("u7"), stage.visit("xyz"))
    assert [(one.tenant, one.state) for one in stage.fleet.status_of_seen()] == [("u7", "ready"), ("xyz", "ready")]
    stage.faults["save"] = save_failed()
    await asyncio.gather(stage.fleet.stop("u7"), return_exceptions=True)
    assert [one.tenant for one in stage.fleet.status_of_seen() if one.unsaved] == ["u7"]
    stage.faults.clear()


# --- commands ---


async def test_a_user_alone_means_all_its_tenants_in_parallel() -> None:
    stage = Stage(make_config("u/x", "u/y", "v"))
    stage.takes["end"] = 5
    await stage.fleet.start("u")
    assert now() == 2
    assert [one.state for one in stage.fleet.status()] == ["ready", "ready", "stopped"]
    await stage.fleet.stop("u")
    assert now() == 7
    assert [one.state for one in stage.fleet.status()] == ["stopped", "stopped", "stopped"]


async def test_an_unknown_tenant_is_refused_with_what_may_have_been_meant() -> None:
    stage = Stage(make_config("bellevue/2025/winter", "boston"))
    for wrong, nearest in [("bellevue/2025/winer", "bellevue/2025/winter"), ("bostn", "boston"), ("zzz", None)]:
        with pytest.raises(NoSuchTenant) as caught:
            await stage.fleet.start(wrong)
        assert caught.value.nearest == nearest
        assert repr(wrong) in str(caught.value)


async def test_restart_is_a_whole_new_run() -> None:
    stage = Stage()
    await stage.visit()
    await stage.fleet.restart("a")
    assert stage.story["a"] == [*UP, "drain", *DOWN, *UP]
    assert stage.status().pid == 2


async def test_a_start_that_fails_says_why() -> None:
    stage = Stage()
    stage.faults["ready"] = start_failed()
    with pytest.raises(Failed, match="exit code 1"):
        await stage.fleet.start("a")


async def test_a_stop_that_leaves_something_unsaved_says_so() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    with pytest.raises(SaveFailed, match="a: the store does not answer"):
        await stage.fleet.stop("a")


async def test_the_name_of_a_tenant_is_once_in_the_message_of_a_stop_and_not_in_its_own_status() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = SaveFailed("a: x.db is not saved: the store is away; a: y.db is not saved: the disk is full")
    with pytest.raises(SaveFailed) as failed:
        await stage.fleet.stop("a")
    why = "x.db is not saved: the store is away; y.db is not saved: the disk is full"
    assert str(failed.value) == f"a: {why}"
    assert stage.status().reason == why


async def test_the_name_of_a_tenant_is_once_in_the_message_of_a_start_that_is_refused() -> None:
    stage = Stage()
    stage.faults["restore"] = RestoreRefused("a: x.db: the snapshot is damaged")
    with pytest.raises(Unsafe) as refused:
        await stage.fleet.start("a")
    assert str(refused.value) == "a: x.db: the snapshot is damaged"


async def test_a_stop_drains_first_but_not_for_ever() -> None:
    stage = Stage(make_config("a", drain_timeout=10.0))
    short = tasks.start(stage.visit(stay=5), "short")
    await asyncio.sleep(3)
    await stage.fleet.stop("a")
    assert now() == 2 + 5
    assert await short == 1
    long = tasks.start(stage.visit(stay=500), "long")
    await asyncio.sleep(3)
    await stage.fleet.stop("a")
    assert now() == 7 + 3 + 10
    assert stage.story["a"] == [*UP, "drain", *DOWN] * 2
    await stage.visit()  # the visit which outlived the drain is no visitor of the new life
    assert stage.status().requests == 0
    await long


async def test_a_drain_ends_when_the_app_does() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(stay=100), "visitor")
    await asyncio.sleep(3)
    asyncio.get_running_loop().call_later(1, stage.children[0].die)
    await stage.fleet.stop("a")
    assert now() == 4
    visitor.cancel()


async def test_the_databases_of_a_ready_tenant_can_be_had() -> None:
    stage = Stage()
    assert stage.fleet.databases("a") is None
    await stage.visit()
    assert stage.fleet.databases("a") is not None
    with pytest.raises(NoSuchTenant):
        stage.fleet.databases("x")


# --- pauses ---


async def test_a_paused_tenant_is_stopped_and_saved_while_its_clients_wait_and_runs_again_after() -> None:
    stage = Stage()
    await stage.visit()
    async with stage.fleet.paused("a") as ran:
        assert ran
        assert stage.story["a"] == [*UP, "drain", *DOWN]
        visitor = tasks.start(stage.visit(), "visitor")
        await asyncio.sleep(20)
        assert stage.status().requests == 1
        assert stage.status().state is State.STOPPED
    assert await visitor == 2
    assert stage.story["a"] == [*UP, "drain", *DOWN, *UP]


async def test_a_user_is_emptied_at_once_and_none_of_its_tenants_starts_again_before_all_have_ended() -> None:
    stage = Stage(make_config("a/1", "a/2", "b"))
    stage.takes["end", "a/2"] = 5.0
    for name in ("1", "2"):
        await stage.tenant("a", name).start()
    await stage.visit("b")
    async with stage.fleet.emptied("a"):
        assert [stage.status(one).state for one in ("a/1", "a/2", "b")] == ["stopped", "stopped", "ready"]
        waiting = tasks.start(stage.tenant("a", "1").start(), "visitor")
        await asyncio.sleep(5)
        assert stage.running == 1, "that of b"
    await waiting
    assert [stage.status(one).state for one in ("a/1", "a/2")] == ["ready", "stopped"]
    stage.faults["save", "a/1"] = SaveFailed("the store is away")
    with pytest.raises(SaveFailed):
        async with stage.fleet.emptied("a"):
            raise AssertionError("it is not emptied")


async def test_a_tenant_which_did_not_run_before_its_pause_does_not_run_after() -> None:
    stage = Stage()
    async with stage.fleet.paused("a") as ran:
        assert not ran
    await asyncio.sleep(5)
    assert stage.story == {}


async def test_a_client_does_not_wait_for_ever_for_the_end_of_a_pause() -> None:
    stage = Stage(make_config("a", start_timeout=30.0, drain_timeout=5.0, stop_grace=5.0))
    async with stage.fleet.paused("a"):
        with pytest.raises(NotReadyInTime):
            await stage.visit()
        assert now() == 40


async def test_nothing_touches_the_databases_of_a_paused_tenant() -> None:
    stage = Stage()
    async with stage.fleet.paused("a"):
        await stage.fleet.recover(["a"])
        await asyncio.sleep(10)
        assert stage.story == {}
    await asyncio.sleep(1)
    assert stage.story["a"] == SAVES


async def test_what_cannot_be_saved_is_not_paused() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    with pytest.raises(SaveFailed):
        async with stage.fleet.paused("a"):
            pytest.fail("a restore over unsaved data")
    stage.faults.clear()
    await asyncio.sleep(5)
    assert stage.status().state is State.READY
    assert await stage.visit() == 2


async def test_two_pauses_of_one_tenant_take_turns() -> None:
    stage = Stage()
    inside = []

    async def pause(name: str) -> None:
        async with stage.fleet.paused("a"):
            inside.append(f"+{name}")
            await asyncio.sleep(1)
            inside.append(f"-{name}")

    await asyncio.gather(pause("x"), pause("y"))
    assert inside == ["+x", "-x", "+y", "-y"]


# --- reload ---


async def test_a_removed_tenant_drains_and_stops_and_is_found_no_more() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(stay=5), "visitor")
    await asyncio.sleep(3)
    held = stage.tenant()
    stage.fleet.apply(make_config("b"))
    assert stage.fleet.find("a", "") is None
    with pytest.raises(Removed):
        await held.serving()
    assert await visitor == 1
    await asyncio.sleep(1)
    assert stage.story["a"] == [*UP, "drain", *DOWN]
    assert [one.tenant for one in stage.fleet.status()] == ["b"]


async def test_a_tenant_removed_while_it_starts_fails_its_waiters_as_removed() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    stage.fleet.apply(make_config("b"))
    with pytest.raises(Removed):
        await visitor


async def test_a_tenant_which_comes_back_while_it_drains_never_has_two_runs() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(stay=8), "visitor")
    await asyncio.sleep(3)
    stage.fleet.apply(make_config("b"))
    await asyncio.sleep(1)
    stage.fleet.apply(stage.config)
    assert await stage.visit() == 2
    assert await visitor == 1
    assert stage.story["a"] == [*UP, "drain", *DOWN, *UP]


async def test_an_added_tenant_is_found_and_a_mended_one_may_start_at_once() -> None:
    stage = Stage(make_config("a"))
    stage.faults["ready"] = start_failed()
    with pytest.raises(Failed):
        await stage.visit()
    await asyncio.sleep(0.1)
    stage.faults.clear()
    stage.fleet.apply(changed(make_config("a", "new"), "a", env={"FIXED": "1"}))
    assert await stage.visit() == 2
    assert await stage.visit("new") == 3


async def test_a_tenant_of_the_pattern_which_becomes_configured_is_the_same() -> None:
    stage = Stage(make_config(pattern="[0-9]+"))
    await stage.visit("7")
    stage.fleet.apply(make_config("7"))
    assert stage.status("7").pid == 1
    assert not stage.status("7").restart_pending


# --- how long all has been quiet ---


async def test_the_fleet_is_quiet_since_its_last_client_left() -> None:
    stage = Stage()
    await asyncio.sleep(10)
    assert stage.fleet.quiet_for() == 10
    visitor = tasks.start(stage.visit(stay=5), "visitor")
    await asyncio.sleep(1)
    assert stage.fleet.quiet_for() == 0
    await stage.visit("b")
    assert stage.fleet.quiet_for() == 0
    await visitor
    await asyncio.sleep(30)
    assert stage.fleet.quiet_for() == 30


async def test_work_on_a_tenant_keeps_the_machine_from_being_idle() -> None:
    stage = Stage()
    async with stage.fleet.paused("a"):
        await asyncio.sleep(100)
        assert stage.fleet.quiet_for() == 0
    await asyncio.sleep(3)
    assert stage.fleet.quiet_for() == 3


# --- before a machine sleeps ---


async def test_at_rest_no_app_runs_all_is_saved_and_a_request_meanwhile_gets_a_new_run() -> None:
    stage = Stage()
    stage.takes["end"] = 2.0
    await asyncio.gather(stage.visit("a"), stage.visit("b"))
    resting = tasks.start(stage.fleet.rest("no one comes"), "rest")
    await asyncio.sleep(1)
    assert await stage.visit("a") == 3
    await resting
    assert stage.story["b"] == [*UP, "drain", *DOWN]
    assert stage.story["a"] == [*UP, "drain", *DOWN, *UP]
    assert stage.fleet.quiet_for() < 3


async def test_what_cannot_be_saved_is_no_rest_and_is_tried_again_at_each() -> None:
    stage = Stage()
    await stage.visit("a")
    stage.faults["save"] = save_failed()
    for _ in range(2):
        with pytest.raises(SaveFailed, match="a: the store does not answer"):
            await stage.fleet.rest("no one comes")
    stage.faults.clear()
    await stage.fleet.rest("no one comes")
    assert stage.story["a"][-5:] == SAVES


async def test_a_tenant_that_keeps_failing_is_not_forgiven_because_its_machine_rests() -> None:
    stage = Stage()
    stage.faults["ready"] = start_failed()
    for _ in range(2):
        await asyncio.gather(stage.visit("a"), return_exceptions=True)
    failed = stage.status("a")
    assert failed.state is State.FAILED
    await stage.fleet.rest("no one comes")
    assert stage.status("a") == failed
