"""Commands of operators beside an app, and without one: what they hold, and when they end."""

import asyncio
import os

import pytest

from fakes.stage import DOWN, UP, Stage, make_config, restore_refused
from flyatc.kit import tasks
from flyatc.kit.streams import Streams
from flyatc.tenants.commands import Ended
from flyatc.tenants.errors import Unsafe
from flyatc.tenants.interfaces import Child
from flyatc.tenants.state import State

pytestmark = pytest.mark.looptime


async def forever(_: Child) -> None:
    await asyncio.Event().wait()


async def execute(stage: Stage, user: str = "a") -> Ended:
    run = await stage.tenant(user).attached()
    try:
        with_streams = Streams(None, os.dup(2), os.dup(2))
        try:
            return await run.commands.execute(stage.tenant(user).spec, with_streams, forever)
        finally:
            with_streams.close()
    finally:
        run.commands.exit()


async def test_a_stopped_tenant_is_restored_for_a_command_and_saved_after_it_without_its_app() -> None:
    stage = Stage(make_config("a"))
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(10_000)
    assert (stage.status().state, stage.status().commands) == (State.EXECUTING, 1)
    assert stage.fleet.quiet_for() == 0, "the machine is not idle"
    stage.commands[0].die(3)
    ended = await work
    assert ended.exit is not None
    assert (ended.exit.code, ended.cut) == (3, False)
    await asyncio.sleep(1)
    assert stage.story["a"] == ["+owner", "+db", "+command", "-command", "-db", "saved", "-owner"]
    assert stage.status().state is State.STOPPED


async def test_an_app_with_a_command_beside_it_is_not_idle() -> None:
    stage = Stage(make_config("a", idle=10.0))
    sweep = tasks.start(stage.fleet.sweep(), "sweep")
    await stage.visit()
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(1000)
    assert stage.status().state is State.READY
    assert stage.status().busy == "a command of flyatc exec"
    stage.commands[0].die(0)
    await work
    await asyncio.sleep(9.9)
    assert stage.status().state is State.READY, "it counts from the end of the command"
    await asyncio.sleep(0.2)
    assert stage.status().state is State.STOPPED
    sweep.cancel()


async def test_a_request_during_a_command_starts_the_app_in_the_same_run() -> None:
    stage = Stage(make_config("a"))
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(1000)
    assert await stage.visit() == 1
    stage.commands[0].die(0)
    await work
    await asyncio.sleep(1)
    assert stage.status().state is State.READY
    assert stage.story["a"] == ["+owner", "+db", "+command", *UP[2:], "-command"]


async def test_a_stop_ends_a_command_before_the_databases_are_saved() -> None:
    stage = Stage(make_config("a"))
    await stage.visit()
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(1)
    await stage.fleet.stop("a")
    assert (await work).cut
    assert stage.story["a"] == [*UP, "+command", "drain", *DOWN[:2], "-command", *DOWN[2:]]


async def test_a_lost_lease_ends_a_command_without_grace() -> None:
    stage = Stage(make_config("a"))
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(1)
    stage.owned.ended.set()
    assert (await work).cut
    assert "-command!" in stage.story["a"]


async def test_a_client_that_leaves_ends_its_command_only() -> None:
    stage = Stage(make_config("a"))
    await stage.visit()
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(1)
    work.cancel()
    await asyncio.sleep(1)
    assert (stage.status().state, stage.status().commands) == (State.READY, 0)
    assert stage.story["a"] == [*UP, "+command", "-command"]


async def test_a_refused_restore_is_the_answer_to_a_command_and_a_back_off_does_not_delay_the_next() -> None:
    stage = Stage(make_config("a"))
    stage.faults["restore"] = restore_refused()
    with pytest.raises(Unsafe, match="the store does not answer"):
        await execute(stage)
    stage.faults.clear()
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(0.1)
    stage.commands[0].die(0)
    assert not (await work).cut


async def test_a_command_that_joins_a_start_which_fails_is_tried_by_itself() -> None:
    stage = Stage(make_config("a"))
    stage.takes["restore"] = 2.0
    stage.faults["restore"] = restore_refused()
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    work = tasks.start(execute(stage), "command")
    await asyncio.sleep(2)
    with pytest.raises(Unsafe):
        await visitor
    stage.faults.clear()
    await asyncio.sleep(2)
    assert stage.status().state is State.EXECUTING
    stage.commands[0].die(0)
    assert not (await work).cut


async def test_a_command_that_fails_by_itself_after_a_start_that_failed_says_why() -> None:
    stage = Stage(make_config("a"))
    stage.takes["restore"] = 2.0
    stage.faults["restore"] = restore_refused()
    visitor = tasks.start(stage.visit(), "visitor")
    await asyncio.sleep(1)
    with pytest.raises(Unsafe, match="the store does not answer"):
        await execute(stage)
    assert stage.story["a"].count("+owner") == 2
    with pytest.raises(Unsafe):
        await visitor
