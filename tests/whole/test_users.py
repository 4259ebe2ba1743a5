"""``flyatc users`` and ``flyatc machines`` against the simulator: users get machines, lose them and move under load."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

import fork_server
from fakes.fly import Reported, ask
from whole import simulated
from whole.daemon import SLOWNESS, clean_environment, config, eventually
from whole.simulated import Sim

BOUND = 20.0  # seconds for which a request may wait while its user moves


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    text = config(users='users: {"*": {match: "[0-9]+"}}', idle="60s", top="fly: {metadata: customer_id}")
    with simulated.running(tmp_path_factory.mktemp("users"), text) as one:
        yield one


def environment(sim: Sim) -> dict[str, str]:
    """Of a laptop."""
    line = next(line for line in sim.out.read_text().splitlines() if line.startswith("API "))
    base = line.split()[1].partition("/v1/")[0]
    return clean_environment() | {"FLY_API_TOKEN": "simulated", "FLY_FLAPS_BASE_URL": base, "FLY_APP_NAME": "sim"}


def flyatc(sim: Sim, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = fork_server.run(arguments, sim.folder, environment(sim), 240 * SLOWNESS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def add(sim: Sim, user: str) -> int:
    reported = ask(sim.port, "POST", f"/{user}/add", b"", {})
    assert reported.status == 200, reported.body
    return int(reported.json["count"])


def machines(sim: Sim) -> set[str]:
    return {one["name"] for one in json.loads((sim.folder / ".flyatc-sim" / "machines.json").read_bytes())}


def served_in(sim: Sim, user: str) -> str:
    """The region of the machine which answers for the user."""
    return str(ask(sim.port, "GET", f"/{user}/echo?env=FLY_REGION", None, {}).json["env"]["FLY_REGION"])


def owner(sim: Sim, user: str) -> tuple[str, str]:
    """By the record: its state, and the holder's region."""
    record = json.loads((sim.folder / "store" / "users" / user / "owner.json").read_bytes())
    return record["state"], record["holder"]["region"]


@dataclass
class Writer:
    """Adds rows all the time, one request after the other."""

    port: int
    user: str
    answers: list[Reported] = field(default_factory=list)
    longest: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.done.is_set():
            began = time.monotonic()
            self.answers.append(ask(self.port, "POST", f"/{self.user}/add", b"", {}))
            self.longest = max(self.longest, time.monotonic() - began)
            self.done.wait(0.03)  # leaves the machines some of the processor


@contextlib.contextmanager
def written_all_the_time(sim: Sim, user: str) -> Iterator[None]:
    """Before, meanwhile and afterwards. Every row counts, none is written twice, and no one is refused."""
    before, writers = add(sim, user), [Writer(sim.port, user) for _ in range(3)]
    threads = [threading.Thread(target=one.run) for one in writers]
    for thread in threads:
        thread.start()

    def wait_for_more() -> None:
        known = [len(one.answers) for one in writers]
        eventually(lambda: all(len(w.answers) > n + 5 for w, n in zip(writers, known, strict=True)), 60, "more rows")

    try:
        wait_for_more()
        yield
        wait_for_more()
    finally:
        for one in writers:
            one.done.set()
        for thread in threads:
            thread.join(60 * SLOWNESS)
    answers = [answer for one in writers for answer in one.answers]
    refused = [(answer.status, answer.body) for answer in answers if answer.status != 200]
    assert refused == [], sim.out.read_text()[-20_000:]  # the hops of each request
    assert sorted(answer.json["count"] for answer in answers) == list(range(before + 1, before + 1 + len(answers)))
    print(f"the longest pause: {max(one.longest for one in writers):.1f} s")
    assert max(one.longest for one in writers) < BOUND * SLOWNESS


def test_an_added_user_is_served_by_a_machine_of_its_own(sim: Sim) -> None:
    assert ask(sim.port, "GET", "/400/count", None, {}).status == 404
    flyatc(sim, "users", "add", "400", "--region", "ams")
    assert eventually(lambda: ask(sim.port, "POST", "/400/add", b"", {}).status == 200, what="400 is known")
    assert served_in(sim, "400") == "ams"
    found: list[dict[str, Any]] = json.loads(flyatc(sim, "users", "list", "--json").stdout)
    [created] = [one for one in found if one["user"] == "400"]
    assert (created["name"], created["state"], created["owned"], created["owner"]) == (
        "user-400",
        "started",
        "held",
        created["machine"],
    )
    [silo] = [one for one in json.loads(flyatc(sim, "machines", "--json").stdout) if one["name"] == "user-400"]
    assert (silo["user"], silo["holds"]) == ("400", ["400"])
    assert silo["version"]


def test_a_user_moves_amid_requests_and_they_only_wait(sim: Sim) -> None:
    with written_all_the_time(sim, "100"):
        flyatc(sim, "users", "move", "100", "--region", "syd")
    assert served_in(sim, "100") == "syd"
    assert owner(sim, "100") == ("held", "syd")


def test_a_move_which_was_broken_off_is_finished_by_saying_it_again(sim: Sim) -> None:
    """Back to the machine of the visitors: named by the DNS, and refused by the record, until it holds the user."""
    out = sim.folder / "move.log"
    with written_all_the_time(sim, "100"):
        with out.open("wb") as reported:
            process = subprocess.Popen(
                [sys.executable, "-m", "flyatc", "users", "move", "100", "--to", "m1"], stdout=reported,
                stderr=subprocess.STDOUT, cwd=sim.folder, env=environment(sim) | {"PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        try:
            eventually(lambda: b"released by" in out.read_bytes(), 60, "the release")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        flyatc(sim, "users", "move", "100", "--to", "m1")
    assert served_in(sim, "100") == "iad"
    assert owner(sim, "100") == ("held", "iad")


def test_a_sleeping_machine_with_unsaved_data_is_woken_to_hand_over(sim: Sim) -> None:
    assert add(sim, "200") == 1
    sim.cli("suspend", "m2")
    plan = flyatc(sim, "users", "move", "200", "--to", "user-100", "--destroy").stdout
    assert [line for line in plan.splitlines() if "start machine" in line]
    assert "add --yes to do it" in plan
    flyatc(sim, "users", "move", "200", "--to", "user-100")
    assert add(sim, "200") == 2
    assert owner(sim, "200") == ("held", "syd")


def test_a_removed_user_is_saved_first_and_404_everywhere_until_it_is_added_again(sim: Sim) -> None:
    flyatc(sim, "users", "add", "600", "--region", "ams")
    assert eventually(lambda: ask(sim.port, "POST", "/600/add", b"", {}).status == 200, what="600 is known")
    count = add(sim, "600")
    assert "destroy machine" in flyatc(sim, "users", "remove", "600").stdout
    assert "user-600" in machines(sim)
    assert owner(sim, "600") == ("held", "ams")
    done = flyatc(sim, "users", "remove", "600", "--yes")
    assert "flyatc users add 600" in done.stdout
    assert "user-600" not in machines(sim)
    assert owner(sim, "600") == ("removed", "ams")
    before = sorted((sim.folder / "store" / "users" / "600").rglob("*"))
    for machine in sim.ids().values():
        eventually(partial(_is_404, sim, machine), what=f"404 on machine {machine}")
    assert sorted((sim.folder / "store" / "users" / "600").rglob("*")) == before
    [listed] = [one for one in json.loads(flyatc(sim, "users", "list", "--json").stdout) if one["user"] == "600"]
    assert (listed["owned"], listed["machine"]) == ("removed", "")
    assert flyatc(sim, "users", "remove", "600", "--yes").stdout.startswith("no machine of sim is 600's")
    flyatc(sim, "users", "add", "600", "--region", "syd")
    assert eventually(lambda: ask(sim.port, "GET", "/600/count", None, {}).status == 200, what="600 is served again")
    assert (add(sim, "600"), served_in(sim, "600")) == (count + 1, "syd")


def _is_404(sim: Sim, machine: str) -> bool:
    return ask(sim.port, "GET", "/600/count", None, {"fly-force-instance-id": machine}).status == 404
