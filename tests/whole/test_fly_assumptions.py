"""Cases that break a naive design on Fly, point by point (0.1 to 0.11 of tests/CASES.md): real daemons, simulated Fly.

Naive is: to look up who serves a user in the DNS by its metadata, to make an id of that address by PTR, and to answer
``fly-replay: instance=<id>``. Three machines m1 (iad, where visitors come in), m2 (ams) and m3 (syd) have 100, 200, 300
in their metadata; m4 is one of another app, and has 500. The simulator's DNS has no PTR.
"""

import json
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import pytest

import fork_server
from fakes.faults import Line
from fakes.s3 import Server
from flyatc.sim.simulator import TOKEN
from whole.cloud import Cloud, ask, cloud
from whole.daemon import SLOWNESS, Answer, clean_environment, config, eventually

HOMES = {"m1": "100", "m2": "200", "m3": "300"}
USERS = 'users: {lost: {machine: e28650ce7d1d68}, round: {machine: {next}}, "*": {match: "[0-9]+"}}'
TOP = "replay: {timeout: 2s, cache: 60s}"


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[Cloud]:
    metadata = {name: {"customer_id": user} for name, user in HOMES.items()}
    folder = tmp_path_factory.mktemp("fly")
    text = config(users=USERS, top=TOP).replace("{interval: 0}", f"{{interval: 0, url: 'file:{folder / 'store'}'}}")
    with cloud(folder, text, moto_server, metadata, ptr=False, stale=0.2) as one:  # a folder costs less than a bucket
        yield one


@pytest.fixture(scope="module")
def side(fly: Cloud, moto_server: Server) -> Iterator[int]:
    """The port of m4."""
    (fly.folder / "m4").mkdir()
    (fly.folder / "m4" / "tenants.yaml").write_text((fly.folder / "m1" / "tenants.yaml").read_text())
    fly.lines["m4"] = Line(moto_server.port)
    asked = {"name": "m4", "region": "iad", "config": {"image": "x", "metadata": {"customer_id": "500"}}}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    api = fly.simulator.api_port
    made = ask(api, "POST", "/v1/apps/side/machines", json.dumps(asked).encode(), headers)
    assert made.status == 200, made.text
    assert not fly.late(20 * SLOWNESS)
    yield fly["m4"].record.port
    fly.destroy("m4")


def visit(fly: Cloud, method: str, path: str, body: bytes | None = None, **more: Any) -> tuple[Answer, str]:
    """The answer, and the hops to it. ``more``: as for Cloud."""
    before, start = len(fly.hops), f"{method} {path.partition('?')[0]} "
    answer = fly.visit(method, path, body, **more)
    hops = eventually(lambda: next((one for one in fly.hops[before:] if one.startswith(start)), None))
    return answer, str(hops)


def count(fly: Cloud, path: str, **more: Any) -> tuple[int, str]:
    """How many rows its user has; and the hops."""
    answer, hops = visit(fly, "GET", f"{path}/count", **more)
    assert answer.status == 200, f"{answer.text} {hops}"
    return int(answer.json["count"]), hops


def stop(fly: Cloud, name: str, user: str) -> None:
    """Its machine releases the user."""
    before = len(fly.reported(name, "user released", user=user))
    command = ["stop", user, "--config", str(fly[name].folder / "tenants.yaml")]
    env = clean_environment() | {"FLYATC_DATA": str(fly[name].folder / "data")}
    fork_server.run(command, fly[name].folder, env, 60 * SLOWNESS).check_returncode()
    eventually(lambda: len(fly.reported(name, "user released", user=user)) > before, what=f"{user} is released")


def addresses(fly: Cloud, user: str) -> list[str]:
    """Of the machines which have the user in their metadata, as the DNS tells them."""
    question = dns.message.make_query(f"{user}.customer_id.kv._metadata.sim.internal.", "AAAA")
    answer = dns.query.udp(question, "127.0.0.1", port=fly.simulator.dns_port, timeout=10)
    return [item.to_text() for records in answer.answer for item in records]


def test_a_sleeping_users_machine_is_not_in_dns_and_is_woken_all_the_same(fly: Cloud) -> None:
    """0.1"""
    assert fly.add("/300", at="m3") == 1
    fly.stop("m3")
    eventually(lambda: addresses(fly, "300") == [], what="m3 is not in the DNS")
    answer, hops = visit(fly, "GET", "/300/count")
    assert f"m1 replays: instance={fly.id('m3')} " in hops
    assert "wakes m3 (stopped)" in hops
    if answer.status == 503:  # it took longer than replay.timeout to wake
        answer = eventually(lambda: one if (one := visit(fly, "GET", "/300/count")[0]).status == 200 else None, 20)
    assert (answer.status, answer.json["count"]) == (200, 1)


def test_the_id_of_a_machine_is_found_without_ptr(fly: Cloud) -> None:
    """0.2"""
    assert addresses(fly, "200") == [fly["m2"].record.address]
    assert f"m1 replays: instance={fly.id('m2')} " in count(fly, "/200")[1]


def test_a_machine_whose_address_changes_is_found_by_its_id(fly: Cloud) -> None:
    """0.3"""
    fly.stop("m2")
    fly["m2"].record.address = "fdaa:0:99:a7b:1:2:3:2"
    fly.start("m2")
    assert addresses(fly, "200") == ["fdaa:0:99:a7b:1:2:3:2"]
    assert not fly.late(20 * SLOWNESS)
    assert f"m3 replays: instance={fly.id('m2')} " in count(fly, "/200", at="m3")[1], "who had not asked yet"


def test_metadata_does_not_make_a_machine_the_owner(fly: Cloud) -> None:
    """0.4"""
    before = fly.add("/100")
    fly["m3"].record.metadata["customer_id"] = "100"
    try:
        assert len(addresses(fly, "100")) == 2
        rows, hops = count(fly, "/100", at="m3")
    finally:
        fly["m3"].record.metadata["customer_id"] = "300"
    assert rows == before
    assert hops.count("replays") == 1
    assert f"m3 replays: instance={fly.id('m1')} " in hops


def test_a_user_of_another_app_is_asked_for_by_app_and_machine(fly: Cloud, side: int) -> None:
    """0.5"""
    assert ask(side, "POST", "/500/add", b"", {}).status == 200
    rows, hops = count(fly, "/500")
    assert rows == 1
    assert f"m1 replays: instance={fly.id('m4')} app=side " in hops


def test_machines_of_one_app_never_need_a_replay_between_networks(fly: Cloud) -> None:
    """0.6: all that is said names no app, but where the owner is one of another."""
    count(fly, "/200", at="m1")
    sent = [hops for hops in fly.hops if " replays: " in hops and " /500/" not in hops]
    assert sent
    assert [hops for hops in sent if " app=" in hops] == []


def test_a_dead_target_is_a_503_and_a_page_rather_than_an_empty_502(fly: Cloud) -> None:
    """0.7"""
    answer, hops = visit(fly, "GET", "/lost/count", accept="text/html")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert "<!doctype html>" in answer.text
    assert "PR02 no_candidate  →  m1 503" in hops


def test_a_body_which_cannot_be_replayed_is_never_executed_on_the_wrong_machine(fly: Cloud) -> None:
    """0.8: it is handed over to the right one."""
    before = count(fly, "/200")[0]
    answer, hops = visit(fly, "POST", "/200/add", bytes(1_500_000), at="m1")
    assert (answer.status, answer.headers["fly-replay"], "replays" in hops) == (200, None, False), hops
    assert count(fly, "/200")[0] == before + 1
    assert not (fly.folder / "m1" / "data" / "tenants" / "200").exists()


def test_machines_which_do_not_agree_replay_no_request_in_circles(fly: Cloud) -> None:
    """0.10"""
    for name in ("m1", "m2", "m3"):
        answer, hops = visit(fly, "GET", "/round/count", at=name)
        assert (answer.status, hops.count("replays") <= 2) == (200, True), hops


def test_clients_that_choose_a_machine_are_served_by_the_right_one(fly: Cloud) -> None:
    """0.11"""
    before = count(fly, "/100")[0]
    forged = {"fly_replay_src": f"instance={fly.id('m1')};region=iad;t=1;state=flyatc.1.1.m.{'0' * 32}"}
    for lies in ({"at": "m2"}, {"at": "m2"} | forged, {"fly_prefer_region": "ams"}):
        rows, hops = count(fly, "/100", **lies)
        assert (rows, "m1 200" in hops) == (before, True), hops
    answer, hops = visit(fly, "GET", "/100/headers?set=fly-replay:region=ams")
    assert (answer.status, "replays" in hops) == (200, False), "nor may the app, unless it is trusted"


def test_a_remembered_replay_has_no_state_and_a_moved_user_is_followed(fly: Cloud) -> None:
    """0.9"""

    def remembered() -> str | None:
        hops = count(fly, "/200")[1]
        return None if "replays" in hops else hops

    before = count(fly, "/200")[0]
    assert " m2 200 " in eventually(remembered, 20, "a replay which is remembered")
    assert fly.add("/200") == before + 1
    assert "m1 replays" in count(fly, "/200", host="another.example")[1], "for one host only"
    fly["m2"].record.metadata["customer_id"], fly["m3"].record.metadata["customer_id"] = "300", "200"
    stop(fly, "m2", "200")
    rows, hops = count(fly, "/200")
    assert (rows, hops.count("replays")) == (before + 1, 1)
    assert f"  m2 replays: instance={fly.id('m3')} " in hops, "the visitor was sent to the former machine at once"
    assert "timeout=2000ms fallback=force_self" in hops
    rows, hops = count(fly, "/200")
    assert (rows, "  m1 replays: " in hops) == (before + 1, True), "which had the proxy forget"
    assert fly.add("/200") == before + 2
