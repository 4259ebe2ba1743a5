"""Idle machines go to sleep by themselves, and requests wake them: real daemons, a small Fly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.fly import ask
from whole import evidence
from whole.daemon import config, eventually
from whole.simulated import Sim, running

WAIT = 25.0  # s; for what takes a machine one or two


def text(shared: Path, then: str, region: str = "") -> str:
    """Of machines which share a store. ``region``: to which ann is pinned."""
    users = f"users: {{ann: {{{region}}}, bob: {{}}}}"
    found = config(users=users, top=f"machine_idle: {{after: 500ms, then: {then}}}")
    return found.replace("{interval: 0}", f"{{interval: 0, url: 'file:{shared}'}}")


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    folder = tmp_path_factory.mktemp("sim")
    with running(folder, text(folder / "shared", "suspend")) as one:
        yield one


def until(sim: Sim, machine: str, state: str) -> None:
    eventually(lambda: sim.states()[machine] == state, WAIT, f"{machine} is {state}")


def add(sim: Sim, machine: str) -> int:
    """A sleeping machine is woken for it."""
    reported = ask(sim.port, "POST", "/ann/add", None, {"fly-force-instance-id": sim.ids()[machine]})
    assert reported.status == 200, reported.body
    return int(reported.json["count"])


def test_it_is_suspended_by_itself_and_wakes_with_what_it_had_and_with_what_others_wrote_meanwhile(sim: Sim) -> None:
    until(sim, "m1", "suspended")  # a request that comes just when it falls asleep waits until it is woken
    assert add(sim, "m1") == 1
    eventually(lambda: sim.reported("m1", "user released"), WAIT, "the end of the app")
    until(sim, "m1", "suspended")
    assert add(sim, "m1") == 2
    assert sim.reported("m1", "asks Fly to suspend this machine")
    eventually(lambda: sim.reported("m1", "awake again"), WAIT, "the line of the machine that woke")
    until(sim, "m1", "suspended")
    assert [one["epoch"] for one in sim.reported("m1", "user owned")] == [1, 1], "its local copy was still the newest"
    (sim.folder / "tenants.yaml").write_text(text(sim.folder / "shared", "suspend", "region: ams"))
    sim.cli("stop", "m2")
    assert add(sim, "m2") == 3, "another machine has the user now, and m1 knows nothing of it"
    assert add(sim, "m1") == 4
    assert len(sim.reported("m1", "user owned")) <= 3


def test_what_is_not_saved_and_a_platform_which_refuses_keep_it_awake(sim: Sim) -> None:
    until(sim, "m2", "suspended")
    add(sim, "m2")
    with evidence.moved_away(sim.folder / "shared", b""):
        before = len(sim.reported("m2", "asks Fly"))
        eventually(lambda: sim.reported("m2", "this machine cannot sleep now"), WAIT, "the reason")
        assert len(sim.reported("m2", "asks Fly")) == before
        assert sim.states()["m2"] == "started"
        sim.cli("fail", "--api", "503")
    refused = {"reason": "503 the simulator is set to fail"}
    eventually(lambda: sim.reported("m2", "this machine cannot sleep now", **refused), WAIT, "the refusal")
    sim.cli("fail")
    until(sim, "m2", "suspended")


def test_it_is_stopped_by_itself_and_started_by_the_next_request(sim: Sim) -> None:
    (sim.folder / "tenants.yaml").write_text(text(sim.folder / "shared", "stop", "region: ams"))
    sim.cli("stop", "m2")
    count = add(sim, "m2")
    eventually(lambda: sim.reported("m2", "stopped: all is saved"), WAIT, "the end")
    until(sim, "m2", "stopped")
    assert sim.reported("m2", "asks Fly to stop this machine")
    assert add(sim, "m2") == count + 1
