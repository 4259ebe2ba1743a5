"""The commands before the app: what clients see of them, how they fail, and how they are cut short."""

import asyncio
from typing import Any

import pytest

from fakes.stage import DOWN, Stage, make_config, start_failed
from flyatc.kit import tasks
from flyatc.kit.errors import StillRunning
from flyatc.tenants.errors import Failed, NotReadyInTime
from flyatc.tenants.state import State

pytestmark = pytest.mark.looptime

BEFORE = ["+owner", "+db", "+prepare", "-prepare"]


def stage_of(**app: Any) -> Stage:
    return Stage(make_config("a", before_start=[["migrate"]], **app))


async def test_they_run_after_the_restore_and_before_the_app() -> None:
    stage = stage_of()
    stage.takes["prepare"] = 5.0
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(4)
    assert stage.status().state is State.PREPARING
    assert await visitor == 1
    assert stage.story["a"] == [*BEFORE, "+app", "+gateway"]
    assert stage.states() == ["owning", "restoring", "preparing", "starting", "ready"]


async def test_without_commands_there_is_no_such_state() -> None:
    stage = Stage(make_config("a"))
    await stage.visit()
    assert "preparing" not in stage.states()


async def test_a_failure_starts_no_app_saves_and_is_tried_again_after_a_back_off() -> None:
    stage = stage_of()
    stage.faults["prepare"] = start_failed()
    results = await asyncio.gather(*(stage.visit() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, Failed) and one.retry_after == 1 for one in results)
    await asyncio.sleep(0.1)
    assert stage.story["a"] == [*BEFORE, *DOWN[2:]], "no app, and the databases are saved"
    assert stage.status().state is State.FAILED
    with pytest.raises(Failed):
        await stage.visit()
    await asyncio.sleep(1)
    stage.faults.clear()
    assert await stage.visit() == 1


async def test_they_have_a_time_of_their_own_beside_start_timeout() -> None:
    stage = stage_of(start_timeout=10.0)
    stage.takes |= {"prepare": 100.0, "ready": 9.0}
    with pytest.raises(NotReadyInTime, match="before_start is not done yet"):
        await stage.visit()  # the client waits for start_timeout
    await asyncio.sleep(88)
    assert stage.status().state is State.PREPARING, "and its end does not stop them"
    assert await stage.visit() == 1


async def test_an_app_has_the_rest_of_start_timeout_after_them() -> None:
    stage = stage_of(start_timeout=10.0)
    stage.takes |= {"prepare": 5.0, "ready": 11.0}
    with pytest.raises(NotReadyInTime, match="not ready within start_timeout"):
        await stage.visit()
    assert asyncio.get_running_loop().time() == pytest.approx(15.0, abs=1.1)


async def test_a_stop_ends_them() -> None:
    stage = stage_of()
    stage.takes["prepare"] = 100.0
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(4)
    await stage.tenant().stopped("someone asked")
    assert stage.story["a"] == [*BEFORE, *DOWN[2:]]
    assert stage.status().state is State.STOPPED
    stage.takes["prepare"] = 0.0
    assert await visitor == 1, "the client is served by the next run"


async def test_the_end_of_the_lease_kills_them() -> None:
    stage = stage_of()
    stage.takes["prepare"] = 100.0
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(4)
    stage.takes["prepare"] = 0.0  # of the next run
    stage.owned.end("the store was silent for too long", lost=True)
    await visitor
    assert stage.story["a"][:4] == ["+owner", "+db", "+prepare", "-prepare!"]


async def test_a_process_that_cannot_be_ended_leaves_the_databases_in_use() -> None:
    stage = stage_of()
    stage.faults["prepare"] = StillRunning("it hangs in the kernel")
    with pytest.raises(Failed):
        await stage.visit()
    await asyncio.sleep(0.1)
    assert stage.status().unsaved
    assert "+app" not in stage.story["a"]
    stage.faults.clear()
