"""An idle machine: it falls asleep, is kept awake, refused, frozen and woken."""

import asyncio
from itertools import pairwise

import pytest

from fakes.sleeper import night, now
from flyatc.fly.local_api import Refused, Unanswered
from flyatc.kit import tasks
from flyatc.kit.errors import SaveFailed

pytestmark = pytest.mark.looptime


async def test_all_is_saved_before_the_platform_is_asked_and_no_user_is_acquired_afterwards() -> None:
    async with night("suspend") as one:
        await asyncio.sleep(906)
        assert one.daemon.story == ["settle", "rest"]
        ((at, verb),) = one.platform.asked
        assert verb == "suspend"
        assert at == pytest.approx(900, abs=5.1)
        assert not one.daemon.awake.is_set()
        assert one.reported("no request for 900 s: going to sleep")
        assert one.reported("asks Fly to suspend this machine")


async def test_a_request_during_the_save_calls_the_sleep_off() -> None:
    async with night("suspend") as one:
        one.daemon.slow["settle"] = 10
        await asyncio.sleep(908)
        assert one.daemon.story == ["settle"]
        assert await one.daemon.visit() == 0
        await asyncio.sleep(100)
        assert not one.platform.asked
        assert one.reported("a request arrived: this machine stays awake")
        await asyncio.sleep(820)
        assert len(one.platform.asked) == 1, "and 900 s later it is tried again"


async def test_a_request_during_the_end_of_the_session_calls_the_sleep_off() -> None:
    async with night("suspend") as one:
        one.daemon.slow["rest"] = 3
        while "rest" not in one.daemon.story:
            await asyncio.sleep(0.5)
        await one.daemon.visit()
        await asyncio.sleep(10)
        assert not one.platform.asked
        assert one.daemon.story == ["settle", "rest", "wake"]


async def test_a_request_in_flight_keeps_it_awake() -> None:
    async with night("stop") as one:
        one.daemon.visitors = 1
        await asyncio.sleep(2000)
        assert not one.daemon.story


async def test_unsaved_data_keep_it_awake_and_are_reported_less_and_less_often() -> None:
    async with night("suspend") as one:
        one.daemon.faults["settle"] = SaveFailed("not everything is saved: ann")
        await asyncio.sleep(900 + 600)
        reported = one.reported("this machine cannot sleep now")
        assert {line["reason"] for line in reported} == {"not everything is saved: ann"}
        assert 7 <= len(reported) <= 9
        assert not one.platform.asked
        del one.daemon.faults["settle"]
        await asyncio.sleep(310)
        assert len(one.platform.asked) == 1


async def test_a_platform_which_refuses_is_asked_again_with_longer_pauses() -> None:
    async with night("stop") as one:
        one.platform.answer = lambda: Refused("503 the simulator is set to fail")
        await asyncio.sleep(900 + 1500)
        times = [at for at, _ in one.platform.asked]
        pauses = [round(after - before) for before, after in pairwise(times)]
        assert pauses == sorted(pauses)
        assert pauses[0] < 10
        assert 300 <= pauses[-1] <= 306
        assert len(times) < 15
        assert one.reported("this machine cannot sleep now")[0]["reason"] == "503 the simulator is set to fail"


async def test_after_a_refusal_clients_are_served_at_once() -> None:
    async with night("suspend") as one:
        one.platform.answer = lambda: Refused("412 unable to suspend machine from current state: 'updating'")
        await asyncio.sleep(906)
        assert await one.daemon.visit() == 0
        assert one.daemon.story[:3] == ["settle", "rest", "wake"]


async def test_a_request_after_the_platform_is_asked_waits_until_the_machine_has_slept() -> None:
    """A user taken before it froze would be served after it, by a session which has long run out."""
    async with night("suspend") as one:
        await asyncio.sleep(906)
        visit = tasks.start(one.daemon.visit(), "visitor")
        await asyncio.sleep(5)
        assert not visit.done()
        one.daemon.freeze(3600)
        assert await visit == pytest.approx(5, abs=1)
        assert one.reported("awake again")[0]["sign"] == "the wall clock jumped by 3600.0 s"
        assert one.daemon.story == ["settle", "rest", "forget", "wake"]


async def test_before_its_clock_is_set_the_stores_clock_shows_that_it_slept() -> None:
    async with night("suspend") as one:
        await asyncio.sleep(906)
        one.daemon.freeze(3600, clock_is_set=False)
        one.daemon.store_knows = True
        assert await one.daemon.visit() < 0.5
        assert one.reported("awake again")[0]["sign"] == "the store's clock went on while ours stood still"


async def test_where_nothing_happens_the_client_is_served_in_the_end_and_it_is_tried_again() -> None:
    async with night("suspend") as one:
        one.platform.answer = lambda: Unanswered("no answer")
        await asyncio.sleep(906)
        assert 20 < await one.daemon.visit() < 31
        assert one.reported("cannot sleep now")[0]["reason"] == "Fly was asked to suspend this machine, and has not"
        assert one.reported("it may do so all the same")
        await asyncio.sleep(940)
        assert len(one.platform.asked) == 2


async def test_after_a_wake_without_a_request_it_stays_awake_as_long_as_after_one() -> None:
    async with night("suspend") as one:
        await asyncio.sleep(906)
        one.daemon.freeze(3600)
        await asyncio.sleep(890)
        assert len(one.platform.asked) == 1
        await asyncio.sleep(20)
        assert len(one.platform.asked) == 2


async def test_a_machine_that_is_to_be_stopped_serves_until_the_signal_comes() -> None:
    async with night("stop") as one:
        await asyncio.sleep(906)
        assert [verb for _, verb in one.platform.asked] == ["stop"]
        assert await one.daemon.visit() == 0
        assert one.daemon.story == ["settle"]


async def test_the_daemon_ends_only_when_all_is_saved() -> None:
    async with night("exit") as one:
        one.daemon.faults["settle"] = SaveFailed("ann: the store does not answer")
        await asyncio.sleep(1000)
        assert not one.ended
        assert one.reported("the daemon cannot end now")[0]["reason"] == "ann: the store does not answer"
        one.daemon.faults.clear()
        await asyncio.sleep(200)
        assert one.ended == ["no request for 900 s"]
        assert one.daemon.story.count("rest") == 0


async def test_an_unrequested_sleep_is_noticed_and_what_was_known_is_forgotten() -> None:
    async with night("exit") as one:
        await asyncio.sleep(100)
        one.daemon.freeze(50)
        began = now()
        while not one.daemon.story:
            await asyncio.sleep(0.1)
        assert now() - began <= 1.1
        await asyncio.sleep(100)
        assert one.daemon.story == ["forget"]
        assert one.reported("this machine slept")[0]["sign"] == "the wall clock jumped by 50.0 s"


async def test_a_busy_event_loop_is_said_as_such_once_in_a_while_and_nothing_is_forgotten() -> None:
    async with night("exit") as one:
        await asyncio.sleep(100)
        for _ in range(5):
            one.daemon.stall(6.4, ran=6.0)
            await asyncio.sleep(2)
        one.daemon.stall(7.0, waited=6.9)
        await asyncio.sleep(20)
        one.daemon.stall(8.0, waited=6.9)
        await asyncio.sleep(2)
        reported = one.reported("requests were not served meanwhile")
        assert [(line["seconds"], line["cause"]) for line in reported] == [
            (6.4, "the event loop was busy itself"),
            (8.0, "other processes had the cores"),
        ]
        assert (reported[1]["times"], reported[1]["seconds_in_all"]) == (6, 40.6)
        assert not one.reported("this machine slept")
        assert one.daemon.story == []


async def test_a_process_that_was_stopped_forgets_what_it_knew_of_others() -> None:
    async with night("exit") as one:
        await asyncio.sleep(100)
        one.daemon.stall(30)
        await asyncio.sleep(2)
        assert one.reported("this process did not run")[0]["seconds"] == 30
        assert not one.reported("this machine slept")
        assert one.daemon.story == ["forget"]


async def test_a_busy_event_loop_is_no_sleep_after_the_question_either() -> None:
    async with night("suspend") as one:
        await asyncio.sleep(901)
        while "rest" not in one.daemon.story:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        one.daemon.stall(8, ran=8)
        await asyncio.sleep(5)
        assert not one.reported("awake again")
        one.daemon.freeze(60)
        await asyncio.sleep(2)
        assert one.reported("awake again")[0]["sign"] == "the wall clock jumped by 60.0 s"
