"""What breaks a naive design on Fly, point by point (0.1 to 0.11 of tests/CASES.md): real daemons on the simulator.

Naive is: to look up who serves a user in the DNS by his metadata, to make an id of that address by PTR, and to answer
``fly-replay: instance=<id>``. Three machines m1 (iad, where visitors come in), m2 (ams) and m3 (syd) have 100, 200, 300
in their metadata; m4 is one of another app, and has 500. The simulator's DNS has no PTR.
"""

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest

from flyatc.sim.machine import Machine, Record
from flyatc.sim.simulator import Settings, Simulator
from whole.daemon import SLOWNESS, Answer, clean_environment, config, eventually

USERS = 'users: {{lost: {{machine: e28650ce7d1d68}}, split: {{region: {region}}}, "*": {{match: "[0-9]+"}}}}'
SPLIT = {"m1": "ams", "m2": "iad", "m3": "ams", "m4": "iad"}  # whom the machines' files send elsewhere, each otherwise


class Fly:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hops: list[str] = []
        for name, region in SPLIT.items():
            text = config(users=USERS.format(region=region), top="replay: {timeout: 2s, cache: 60s}")
            text = text.replace("{interval: 0}", f"{{interval: 0, url: 'file:{folder / 'store'}'}}")
            (folder / f"{name}.yaml").write_text(text)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="a small Fly")
        self._thread.start()
        self.simulator: Simulator = self.do(self._made())
        metadata = {f"m{number}": {"customer_id": str(100 * number)} for number in (1, 2, 3)}
        self.do(self.simulator.open(metadata))
        self.do(self.simulator.machines.create("side", "iad", {"customer_id": "500"}, "m4").start())
        assert not self.do(self.simulator.ready(20 * SLOWNESS))

    async def _made(self) -> Simulator:
        return Simulator(Settings(folder=self.folder, ptr=False, stale=0.2), self._command, self.hops.append)

    def _command(self, record: Record, _: Path) -> list[str]:
        return [sys.executable, "-m", "flyatc", "serve", "--config", str(self.folder / f"{record.name}.yaml")]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120 * SLOWNESS)

    def close(self) -> None:
        self.do(self.simulator.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __getitem__(self, name: str) -> Machine:
        return self.simulator.machines.named(name)

    def id(self, name: str) -> str:
        return self[name].record.id

    def visit(self, method: str, path: str, body: bytes | None = None, /, **headers: str) -> tuple[Answer, str]:
        """The answer, and the hops to it; ``headers``: with ``_`` for ``-``."""
        before = len(self.hops)
        connection = http.client.HTTPConnection("127.0.0.1", self.simulator.port, timeout=40 * SLOWNESS)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            came = connection.getresponse()
            answer = Answer(came.status, came.msg, came.read())
        start = f"{method} {path.partition('?')[0]} "
        return answer, eventually(lambda: next((one for one in self.hops[before:] if one.startswith(start)), None))

    def count(self, path: str, /, **headers: str) -> tuple[int, str]:
        """How many rows its user has; and the hops."""
        answer, hops = self.visit("GET", f"{path}/count", **headers)
        assert answer.status == 200, f"{answer.text} {hops}"
        return int(answer.json["count"]), hops

    def add(self, path: str, /, **headers: str) -> int:
        """A row; how many there are."""
        answer, hops = self.visit("POST", f"{path}/add", b"", **headers)
        assert answer.status == 200, f"{answer.text} {hops}"
        return int(answer.json["count"])

    def addresses(self, name: str) -> list[str]:
        question = dns.message.make_query(f"{name}.sim.internal.", "AAAA")
        answer = dns.query.udp(question, "127.0.0.1", port=self.simulator.dns_port, timeout=10)
        return [item.to_text() for rrset in answer.answer for item in rrset]

    def released(self, machine: str) -> int:
        """How often it has given a user free."""
        return (self.folder / machine / "machine.log").read_text().count('"user released"')

    def cli(self, machine: str, *arguments: str) -> None:
        """A command on the machine itself."""
        env = clean_environment() | {"FLYATC_DATA": str(self.folder / machine / "data")}
        subprocess.run(
            [sys.executable, "-m", "flyatc", *arguments, "--config", str(self.folder / f"{machine}.yaml")],
            env=env, check=True, capture_output=True, timeout=60 * SLOWNESS,
        )  # fmt: skip


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fly]:
    before = {name: os.environ.pop(name) for name in set(os.environ) - set(clean_environment())}
    one = Fly(tmp_path_factory.mktemp("fly"))
    try:
        yield one
    finally:
        one.close()
        os.environ.update(before)
        logs = {name: (one.folder / name / "machine.log").read_text(errors="replace") for name in SPLIT}
        print(*(f"--- {name} ---\n{log[-10_000:]}" for name, log in logs.items()), *one.hops, sep="\n")
    assert not [name for name, log in logs.items() if "unexpected error" in log or "Traceback" in log]


def at(fly: Fly, name: str) -> dict[str, str]:
    """The header by which a visitor comes in at this machine."""
    return {"fly_force_instance_id": fly.id(name)}


def test_a_sleeping_users_machine_is_not_in_dns_and_is_woken_all_the_same(fly: Fly) -> None:
    """0.1"""
    assert fly.add("/300", **at(fly, "m3")) == 1
    fly.do(fly["m3"].stop())
    eventually(lambda: fly.addresses("300.customer_id.kv._metadata") == [], what="m3 is not in the DNS")
    answer, hops = fly.visit("GET", "/300/count")
    assert f"m1 replays: instance={fly.id('m3')} " in hops
    assert "wakes m3 (stopped)" in hops
    if answer.status == 503:  # it took longer than replay.timeout to wake
        answer = eventually(lambda: one if (one := fly.visit("GET", "/300/count")[0]).status == 200 else None, 20)
    assert (answer.status, answer.json["count"]) == (200, 1)


def test_the_id_of_a_machine_is_found_without_ptr(fly: Fly) -> None:
    """0.2"""
    assert fly.addresses("200.customer_id.kv._metadata") == [fly["m2"].record.address]
    assert f"m1 replays: instance={fly.id('m2')} " in fly.count("/200")[1]


def test_a_machine_whose_address_changes_is_found_by_its_id(fly: Fly) -> None:
    """0.3"""
    fly.do(fly["m2"].stop())
    fly["m2"].record.address = "fdaa:0:99:a7b:1:2:3:2"
    fly.do(fly["m2"].start())
    assert fly.addresses("200.customer_id.kv._metadata") == ["fdaa:0:99:a7b:1:2:3:2"]
    assert not fly.do(fly.simulator.ready(20 * SLOWNESS))
    assert f"m3 replays: instance={fly.id('m2')} " in fly.count("/200", **at(fly, "m3"))[1], "who had not asked yet"


def test_metadata_does_not_make_a_machine_the_owner(fly: Fly) -> None:
    """0.4"""
    before = fly.add("/100")
    fly["m3"].record.metadata["customer_id"] = "100"
    try:
        assert len(fly.addresses("100.customer_id.kv._metadata")) == 2
        count, hops = fly.count("/100", **at(fly, "m3"))
    finally:
        fly["m3"].record.metadata["customer_id"] = "300"
    assert count == before
    assert hops.count("replays") == 1
    assert f"m3 replays: instance={fly.id('m1')} " in hops


def test_a_user_of_another_app_is_asked_for_by_app_and_machine(fly: Fly) -> None:
    """0.5"""
    connection = http.client.HTTPConnection("127.0.0.1", fly["m4"].record.port, timeout=40 * SLOWNESS)
    with contextlib.closing(connection):
        connection.request("POST", "/500/add")
        assert connection.getresponse().status == 200
    count, hops = fly.count("/500")
    assert count == 1
    assert f"m1 replays: instance={fly.id('m4')} app=side " in hops


def test_machines_of_one_app_never_need_a_replay_between_networks(fly: Fly) -> None:
    """0.6: all that is said names no app, but where the owner is one of another."""
    fly.count("/200", **at(fly, "m1"))
    sent = [hops for hops in fly.hops if " replays: " in hops and " /500/" not in hops]
    assert sent
    assert [hops for hops in sent if " app=" in hops] == []


def test_a_dead_target_is_a_503_and_a_page_rather_than_an_empty_502(fly: Fly) -> None:
    """0.7"""
    answer, hops = fly.visit("GET", "/lost/count", accept="text/html")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert "<!doctype html>" in answer.text
    assert "PR02 no_candidate  →  m1 503" in hops


def test_a_body_which_cannot_be_replayed_is_never_executed_on_the_wrong_machine(fly: Fly) -> None:
    """0.8"""
    before = fly.count("/200")[0]
    answer, hops = fly.visit("POST", "/200/add", bytes(1_500_000), **at(fly, "m1"))
    assert (answer.status, answer.headers["fly-replay"]) == (413, None), hops
    assert fly.count("/200")[0] == before
    assert not (fly.folder / "m1" / "data" / "tenants" / "200").exists()


def test_machines_which_do_not_agree_send_nobody_in_circles(fly: Fly) -> None:
    """0.10"""
    for name in ("m1", "m2", "m3"):
        answer, hops = fly.visit("GET", "/split/count", **at(fly, name))
        assert (answer.status, hops.count("replays") <= 1) == (200, True), hops


def test_visitors_who_choose_a_machine_are_served_by_the_right_one(fly: Fly) -> None:
    """0.11"""
    before = fly.count("/100")[0]
    forged = {"fly_replay_src": f"instance={fly.id('m1')};region=iad;t=1;state=flyatc.1.1.m.{'0' * 32}"}
    for lies in (at(fly, "m2"), at(fly, "m2") | forged, {"fly_prefer_region": "ams"}):
        count, hops = fly.count("/100", **lies)
        assert (count, "m1 200" in hops) == (before, True), hops
    answer, hops = fly.visit("GET", "/100/headers?set=fly-replay:region=ams")
    assert (answer.status, "replays" in hops) == (200, False), "nor may the app, unless it is trusted"


def test_a_replay_which_is_remembered_has_no_state_and_who_has_moved_is_followed(fly: Fly) -> None:
    """0.9"""

    def remembered() -> str | None:
        hops = fly.count("/200")[1]
        return None if "replays" in hops else hops

    before = fly.count("/200")[0]
    assert " m2 200 " in eventually(remembered, 20, "a replay which is remembered")
    assert fly.add("/200") == before + 1
    assert "m1 replays" in fly.count("/200", host="another.example")[1], "for one host only"
    fly["m2"].record.metadata["customer_id"], fly["m3"].record.metadata["customer_id"] = "300", "200"
    released = fly.released("m2")
    fly.cli("m2", "stop", "200")
    eventually(lambda: fly.released("m2") > released, what="m2 gives 200 free")
    count, hops = fly.count("/200")
    assert (count, hops.count("replays")) == (before + 1, 1)
    assert f"  m2 replays: instance={fly.id('m3')} " in hops, "the visitor was sent to his former machine at once"
    assert "timeout=2000ms fallback=force_self" in hops
    count, hops = fly.count("/200")
    assert (count, "  m1 replays: " in hops) == (before + 1, True), "which had the proxy forget"
    assert fly.add("/200") == before + 2
