"""One run of a tenant: one start for many, what goes wrong on the way, and everything is released."""

import asyncio

import pytest

from fakes.stage import DOWN, SAVES, UP, Stage, make_config, restore_refused, save_failed, start_failed
from flyatc.kit import tasks
from flyatc.kit.errors import PortTaken, SaveFailed, StillRunning
from flyatc.tenants.app_start import PORTS
from flyatc.tenants.errors import Failed, NotReadyInTime, Unsafe
from flyatc.tenants.state import State

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def all_given_back(story: list[str]) -> bool:
    """Each thing that was taken, and in reverse."""
    held: list[str] = []
    for what in story:
        if what[0] == "+":
            held.append(what[1:])
        elif what[0] == "-" and held.pop() != what[1:]:
            return False
    return not held


async def test_fifty_clients_cause_one_start() -> None:
    stage = Stage()
    ports = await asyncio.gather(*(stage.visit() for _ in range(50)))
    assert set(ports) == {1}
    assert stage.story["a"] == UP
    assert now() == 2


async def test_a_warm_tenant_serves_at_once_and_counts_the_client() -> None:
    stage = Stage()
    assert stage.tenant().visit() is None
    await stage.visit()
    visit = stage.tenant().visit()
    assert visit is not None
    assert visit.port == 1
    assert stage.status().requests == 1
    visit.end()
    visit.end()
    assert stage.status().requests == 0


async def test_the_whole_run_is_visible_in_its_states() -> None:
    stage = Stage()
    await stage.visit()
    await stage.fleet.stop("a")
    assert stage.states() == ["owning", "restoring", "starting", "ready", "draining", "saving", "stopped"]
    assert stage.story["a"] == [*UP, "drain", *DOWN]
    ready = next(e for e in stage.events if e.get("state") == "ready")
    assert (ready["tenant"], ready["was"], ready["ms"]) == ("a", "starting", 2000.0)


async def test_requests_of_a_run_stopped_in_the_turn_of_ready_are_served_by_the_next() -> None:
    stage = Stage()

    def stop_first(step: str, tenant: str) -> None:
        if step == "is ready" and len(stage.children) == 1:
            stage.tenant().stop("someone asked")

    stage.at_step = stop_first
    assert await asyncio.gather(*(stage.visit() for _ in range(5))) == [2] * 5


async def test_a_stop_in_the_turn_in_which_the_app_answers_is_no_crash() -> None:
    stage = Stage()
    loop = asyncio.get_running_loop()

    def stop_when_it_answers(step: str, tenant: str) -> None:
        if step == "ready":  # behind the app's own timer for the same moment
            loop.call_soon(lambda: loop.call_at(2.0, stage.tenant().stop, "someone asked"))

    visitor = tasks.start(stage.visit(), "visitor")
    stage.at_step = stop_when_it_answers
    await asyncio.sleep(1)
    visitor.cancel()
    await asyncio.sleep(1.1)
    assert stage.status().state is State.STOPPED
    assert stage.status().crashes == 0
    assert stage.story["a"] == ["+owner", "+db", "+app", "-app", "-db", "saved", "-owner"]


async def test_a_client_that_leaves_does_not_stop_the_start() -> None:
    stage = Stage()
    leaver, stayer = (tasks.start(stage.visit(), name) for name in ("leaver", "stayer"))
    await asyncio.sleep(1)
    assert stage.status().requests == 2
    leaver.cancel()
    assert await stayer == 1
    assert leaver.cancelled()
    assert stage.status().requests == 0
    assert stage.story["a"] == UP


async def test_a_start_goes_on_though_every_client_has_left() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    visitor.cancel()
    await asyncio.sleep(2)
    assert stage.status().state is State.READY


async def test_health_checks_see_the_warm_app_and_keep_nothing_awake() -> None:
    stage = Stage()
    assert stage.tenant().peek() is None
    await stage.visit()
    assert stage.tenant().peek() is not None
    assert stage.status().requests == 0


# --- what goes wrong on the way up ---


async def test_a_failed_start_fails_all_waiting_requests_and_releases_everything() -> None:
    stage = Stage()
    stage.faults["ready"] = start_failed()
    results = await asyncio.gather(*(stage.visit() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, Failed) and one.retry_after == 1 for one in results)
    assert len({id(one) for one in results}) == 5
    await asyncio.sleep(0.1)
    assert stage.story["a"] == ["+owner", "+db", "+app", "-app", "-db", "saved", "-owner"]
    assert stage.status().state is State.FAILED
    assert "exit code 1" in str(stage.status().reason)


async def test_a_failed_start_is_reported_before_the_app_has_ended() -> None:
    stage = Stage()
    stage.faults["ready"] = start_failed()
    stage.takes["end"] = 10
    with pytest.raises(Failed):
        await stage.visit()
    assert now() == 2
    assert stage.status().state is State.SAVING


@pytest.mark.parametrize("step", ["restore", "spawn", "ready"])
async def test_what_takes_longer_than_start_timeout_is_given_up_and_back(step: str) -> None:
    stage = Stage(make_config("a", start_timeout=10.0))
    stage.takes[step] = 1000
    with pytest.raises(NotReadyInTime):
        await stage.visit()
    assert now() == 10
    await asyncio.sleep(0.5)
    assert all_given_back(stage.story.get("a", []))
    with pytest.raises(Failed, match="start_timeout"):
        await stage.visit()


async def test_a_client_waits_no_longer_than_the_start_even_where_a_tool_is_slow_to_give_up() -> None:
    stage = Stage(make_config("a", start_timeout=10.0))
    hanging = asyncio.Event()

    async def stubborn() -> None:
        while not hanging.is_set():
            try:
                await hanging.wait()
            except asyncio.CancelledError:
                continue

    stage.takes["restore"] = 0
    stage.hang = stubborn
    with pytest.raises(NotReadyInTime):
        await stage.visit()
    assert now() == 11
    hanging.set()


async def test_a_refused_restore_starts_nothing_and_saves_nothing() -> None:
    stage = Stage()
    stage.faults["restore"] = restore_refused()
    with pytest.raises(Unsafe) as caught:
        await stage.visit()
    assert caught.value.retry_after == 1
    assert "store does not answer" in caught.value.reason
    await asyncio.sleep(0.5)
    assert stage.story == {"a": ["+owner", "-owner"]}
    with pytest.raises(Unsafe):
        await stage.visit()


async def test_an_unexpected_exception_is_a_failed_start() -> None:
    stage = Stage()
    stage.faults["spawn"] = OSError(12, "Cannot allocate memory")
    with pytest.raises(Failed, match="Cannot allocate memory"):
        await stage.visit()


async def test_failed_starts_back_off_and_meanwhile_fail_at_once() -> None:
    stage = Stage()
    stage.takes["ready"] = 0
    stage.faults["ready"] = start_failed()
    moments = []
    for _ in range(8):
        with pytest.raises(Failed) as caught:
            await stage.visit()
        moments.append(caught.value.retry_after)
        await asyncio.sleep(0.5)
        with pytest.raises(Failed) as caught:
            await stage.visit()
        assert caught.value.retry_after == moments[-1] - 0.5
        await asyncio.sleep(caught.value.retry_after)
    assert moments == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(stage.children) == 8


async def test_a_start_by_hand_does_not_wait_for_the_back_off() -> None:
    stage = Stage()
    stage.faults["ready"] = start_failed()
    with pytest.raises(Failed):
        await stage.visit()
    stage.faults.clear()
    await stage.fleet.start("a")
    assert stage.status().state is State.READY
    assert stage.status().reason is None


# --- crashes ---


async def test_a_crash_is_reported_with_its_last_lines_and_the_next_request_starts_anew() -> None:
    stage = Stage()
    await stage.visit()
    stage.children[0].die(3, "one", "two")
    await asyncio.sleep(0.1)
    status = stage.status()
    assert (status.state, status.crashes, status.last_exit) == (State.STOPPED, 1, "exit code 3: one | two")
    crash = next(e for e in stage.events if e["msg"] == "the app ended by itself")
    assert (crash["exit"], crash["output"]) == ("exit code 3", ["one", "two"])
    assert stage.story["a"] == UP + DOWN
    assert await stage.visit() == 2


async def test_the_second_crash_within_a_minute_backs_off() -> None:
    stage = Stage()
    await stage.visit()
    stage.children[-1].die()
    await asyncio.sleep(0.01)
    for wait in (1, 2, 4):
        await stage.visit()
        stage.children[-1].die()
        await asyncio.sleep(0.01)
        assert stage.status().state is State.FAILED
        with pytest.raises(Failed, match="again and again") as caught:
            await stage.visit()
        assert caught.value.retry_after == pytest.approx(wait - 0.01)
        await asyncio.sleep(wait)


async def test_an_app_that_was_ready_for_more_than_a_minute_may_crash_again() -> None:
    stage = Stage()
    for _ in range(3):
        await stage.visit()
        await asyncio.sleep(61)
        stage.children[-1].die()
        await asyncio.sleep(0.1)
        assert stage.status().state is State.STOPPED
    assert stage.status().crashes == 3


async def test_a_crash_in_the_turn_of_ready_does_not_fail_waiting_requests() -> None:
    stage = Stage()

    def die_when_ready(step: str, tenant: str) -> None:
        if step == "gateway" and len(stage.children) == 1:
            stage.children[0].die()

    stage.at_step = die_when_ready
    assert set(await asyncio.gather(*(stage.visit(stay=1) for _ in range(5)))) <= {1, 2}
    assert await stage.visit() == 2
    assert stage.status().crashes == 1


# --- saving ---


async def test_a_save_that_fails_is_reported_and_tried_again_until_it_succeeds() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    await asyncio.gather(stage.fleet.stop("a"), return_exceptions=True)
    assert stage.status().unsaved
    assert stage.status().state is State.STOPPED
    assert stage.status().reason == "the store does not answer"
    assert any(e["level"] == "error" and e["msg"].startswith("not saved") for e in stage.events)
    await asyncio.sleep(1 + 2 + 4 + 0.5)
    assert stage.story["a"] == [*UP, "drain", *DOWN[:3], "-owner", *["+owner", "+db", "-db", "-owner"] * 3]
    assert len(stage.children) == 1
    stage.faults.clear()
    await asyncio.sleep(8)
    assert not stage.status().unsaved
    assert stage.story["a"][-5:] == SAVES
    assert stage.status().saved_at is not None


async def test_a_client_does_not_wait_for_the_next_try_to_save() -> None:
    stage = Stage()
    await stage.visit()
    stage.faults["save"] = save_failed()
    await asyncio.gather(stage.fleet.stop("a"), return_exceptions=True)
    before = now()
    assert await stage.visit() == 2
    assert now() == before + 2
    stage.faults.clear()
    await stage.fleet.stop("a")
    assert not stage.status().unsaved


async def test_a_client_that_comes_while_data_is_saved_alone_waits_for_that() -> None:
    stage = Stage()
    stage.takes["save"] = 5
    recovering = tasks.start(stage.fleet.recover(["a"]), "recover")
    await asyncio.sleep(1)
    assert stage.status().state is State.SAVING
    await stage.visit()
    await recovering
    assert now() == 5 + 2
    assert stage.story["a"] == [*SAVES, *UP]


async def test_a_failed_start_and_a_failed_save_are_both_remembered() -> None:
    stage = Stage()
    stage.faults["ready"] = start_failed()
    stage.faults["save"] = save_failed()
    with pytest.raises(Failed, match="exit code 1"):
        await stage.visit()
    await asyncio.sleep(0.1)
    assert stage.status().state is State.FAILED
    assert stage.status().unsaved


async def test_a_recovery_does_not_wait_for_an_app_that_runs() -> None:
    stage = Stage()
    await stage.visit()
    await stage.fleet.recover(["a"])
    assert now() == 2
    await stage.fleet.stop("a")
    assert not stage.status().unsaved
    assert stage.story["a"] == [*UP, "drain", *DOWN]


async def test_what_is_newer_than_the_store_is_saved_four_at_a_time() -> None:
    names = [f"u{n}" for n in range(10)]
    stage = Stage(make_config(*names))
    stage.takes["save"] = 1
    await stage.fleet.recover([*names, "stranger"])
    assert stage.most_saving == 4
    assert now() == 3
    assert all(stage.story[name] == SAVES for name in names)
    assert [e["tenant"] for e in stage.events if "not configured" in e["msg"]] == ["stranger"]


# --- interrupted anywhere ---


@pytest.mark.parametrize("nth", range(1, 6))
async def test_a_run_cut_at_any_step_gives_everything_back(nth: int) -> None:
    stage = Stage()
    steps = 0
    stage.takes = dict.fromkeys(("restore", "spawn", "ready", "end", "save"), 1.0)

    def cut(step: str, tenant: str) -> None:
        nonlocal steps
        steps += step in stage.takes
        if steps == nth and step in stage.takes:
            story = next(t for t in asyncio.all_tasks() if t.get_name() == "tenant a")
            asyncio.get_running_loop().call_later(0.5, story.cancel)

    stage.at_step = cut
    assert await stage.visit()
    for _ in range(2):  # the first may find what could not be saved
        await asyncio.gather(stage.fleet.stop("a"), return_exceptions=True)
        await asyncio.sleep(10)
    assert all_given_back(stage.story["a"])
    assert steps >= nth
    assert stage.status().state is State.STOPPED
    assert not stage.status().unsaved
    assert await stage.visit() == len(stage.children)


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.5, 2.5, 3.0, 3.5, 4.5, 5.5])
async def test_a_stop_at_any_moment_gives_everything_back(moment: float) -> None:
    stage = Stage()
    stage.takes = dict.fromkeys(("restore", "spawn", "ready", "end", "save"), 1.0)
    await asyncio.sleep(10)
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(moment)
    visitor.cancel()
    await stage.fleet.stop("a")
    assert all_given_back(stage.story.get("a", []))
    assert stage.status().state is State.STOPPED


async def test_a_folder_that_is_removed_after_its_databases_were_let_go_is_no_loss() -> None:
    stage = Stage()
    stage.takes |= {"disown": 5.0}
    await stage.visit()
    assert await stage.fleet.kill_deleted("it was deleted", gone=lambda _: False) == []
    stopping = tasks.start(stage.fleet.stop("a"), "stop")
    await asyncio.sleep(1)
    assert stage.story["a"][-1] == "saved"
    assert await stage.fleet.kill_deleted("it was deleted", gone=lambda _: True) == []
    await stopping


async def test_an_app_whose_folder_was_deleted_is_killed_at_once_and_the_next_request_starts_it_anew() -> None:
    stage = Stage()
    busy = tasks.start(stage.visit(stay=1000), "busy")
    await asyncio.sleep(3)
    assert await stage.fleet.kill_deleted("it was deleted", gone=lambda _: True) == ["a"]
    assert "-app!" in stage.story["a"]
    busy.cancel()
    await stage.visit()
    assert stage.story["a"][-len(UP) :] == UP


async def test_what_cannot_be_ended_is_named_in_the_status_and_the_tenant_counts_as_unsaved() -> None:
    stage = Stage()
    stage.faults["end"] = StillRunning("a cannot be ended: 4711 (sleep 600)")
    await stage.visit()
    with pytest.raises(SaveFailed, match="4711"):
        await stage.fleet.stop("a")
    assert stage.status().unsaved
    assert stage.status().reason == "a cannot be ended: 4711 (sleep 600)"
    assert all_given_back(stage.story["a"])


# --- a database that another tenant has open ---


async def test_a_run_that_is_refused_ends_at_once_as_a_failed_start() -> None:
    stage = Stage()
    visitor = tasks.start(stage.visit(stay=1000), "visitor")
    await asyncio.sleep(3)
    assert stage.watches["a"].begun is stage.children[0]
    stage.watches["a"].refuse("a and b have the same database open")
    await asyncio.sleep(0.1)
    assert stage.story["a"] == [*UP, "drain", *DOWN], "its visitor is not waited for, but it has its grace"
    assert (stage.status().state, stage.status().reason) == (State.FAILED, "a and b have the same database open")
    with pytest.raises(Failed, match="the same database"):
        await stage.visit()
    await asyncio.sleep(1)
    assert await stage.visit() == 2
    visitor.cancel()


async def test_what_was_overlooked_is_in_the_status_while_it_runs_and_after() -> None:
    stage = Stage()
    await stage.visit()
    stage.watches["a"].overlooked = ["the app writes elsewhere"]
    assert stage.status().overlooked == ["the app writes elsewhere"]
    await stage.tenant().stopped("someone asked")
    assert stage.status().overlooked == ["the app writes elsewhere"]
    await stage.visit()
    assert stage.status().overlooked == [], "until the next run"


@pytest.mark.parametrize("closes", [False, True], ids=["start_timeout is over", "the daemon goes away"])
async def test_what_a_start_that_was_cut_short_could_not_save_is_saved_afterwards(closes: bool) -> None:
    stage = Stage(make_config("a", start_timeout=5.0))

    async def hang() -> None:
        stage.hang = None
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise save_failed() from None

    stage.hang = hang
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(3)
    if closes:
        assert await stage.fleet.close(25)
    else:
        await asyncio.sleep(2.5)
        assert stage.status().unsaved
        await asyncio.sleep(5)
    assert not stage.status().unsaved
    assert stage.story["a"] == ["+owner", "-owner", *SAVES]
    assert (await asyncio.gather(visitor, return_exceptions=True))[0] is not None


# --- a port that another process takes first ---


async def test_an_app_whose_port_was_taken_is_started_again_for_the_same_clients() -> None:
    stage = Stage()

    def take_the_first(step: str, tenant: str) -> None:
        stage.faults = {"ready": PortTaken("taken")} if len(stage.children) == 1 else {}

    stage.at_step = take_the_first
    assert await asyncio.gather(*(stage.visit() for _ in range(5))) == [2] * 5
    assert stage.story["a"] == ["+owner", "+db", "+app", "-app", "+app", "+gateway"]
    assert [one["reason"] for one in stage.events if one["level"] == "warning"] == ["taken"]
    assert stage.status().reason is None
    await stage.fleet.stop("a")
    assert all_given_back(stage.story["a"])


async def test_a_start_ends_when_each_port_is_taken() -> None:
    stage = Stage()
    stage.faults["ready"] = PortTaken("taken")
    with pytest.raises(Failed, match="taken"):
        await stage.visit()
    await asyncio.sleep(1)
    assert stage.story["a"].count("+app") == PORTS
    assert all_given_back(stage.story["a"])
    assert stage.status().state is State.FAILED


async def test_an_app_without_its_port_that_cannot_be_ended_leaves_the_databases_in_use() -> None:
    stage = Stage()
    stage.faults.update(ready=PortTaken("taken"), end=StillRunning("a cannot be ended: 4711 (sleep 600)"))
    with pytest.raises(Failed, match="4711"):
        await stage.visit()
    await asyncio.sleep(0.1)
    assert stage.story["a"].count("+app") == 1
    assert stage.status().unsaved
    assert all_given_back(stage.story["a"])


async def test_a_stop_while_the_app_without_its_port_ends_is_the_end_of_the_start() -> None:
    stage = Stage()
    stage.faults["ready"], stage.takes["end"] = PortTaken("taken"), 5.0
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(4)
    visitor.cancel()
    await stage.fleet.stop("a")
    assert stage.story["a"].count("+app") == 1
    assert all_given_back(stage.story["a"])
    assert stage.status().state is State.STOPPED
