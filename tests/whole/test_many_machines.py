"""Machines of real daemons behind the simulator's proxy, with one bucket: a request to any of them is served by the one
which has the user. The metadata name the users 100, 200 and 300; m4, which has none, knows nothing of metadata."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

import fork_server
from fakes.s3 import Server
from whole.cloud import Cloud, cloud
from whole.daemon import SLOWNESS, clean_environment, config, eventually
from whole.visits import Line, request

HOMES = {"m1": "100", "m2": "200", "m3": "300"}
USERS = 'users: {ann: , cid: , dan: , round: {machine: {next}}, "*": {match: "[0-9]+"}}'
KEPT = "/dan/headers?set=Cache-Control:max-age=3600"
FLY = "replay: {timeout: 12s}"


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[Cloud]:
    text = config(users=USERS, top=FLY).replace("{interval: 0}", "{interval: 1s, session_ttl: 10s}")
    metadata = {name: {"customer_id": user} for name, user in HOMES.items()} | {"m4": {}}
    regions = ("iad", "ams", "syd", "waw")
    with cloud(tmp_path_factory.mktemp("fly"), text, moto_server, metadata, regions=regions) as one:
        yield one


def cli(fly: Cloud, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """On a machine."""
    folder = fly[name].folder
    env = clean_environment() | {"FLYATC_DATA": str(folder / "data")}
    return fork_server.run([*arguments, "--config", str(folder / "tenants.yaml")], folder, env, 60 * SLOWNESS)


def talking(line: Line, path: str, *headers: str) -> bool:
    """It has become a WebSocket, which says what it is reported."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    line.send(request(path, *upgrade, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *headers))
    if line.reply().status != 101:
        return False
    return line.send(b"there").take(5) == b"there"


def test_whichever_machine_is_asked_the_right_one_serves(fly: Cloud) -> None:
    def visit(user: str, at: str | None) -> int:
        return fly.add(f"/{user}", at=at)

    asked = [(user, at) for at in (None, *HOMES) for user in HOMES.values()]
    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(lambda one: visit(*one), asked))
    for home, user in HOMES.items():
        assert sorted(count for (of, _), count in zip(asked, counts, strict=True) if of == user) == [1, 2, 3, 4]
        assert fly.owner(user) == home
    assert fly.visit("POST", "/300/add", b"x" * 900_000, at="m2").json["count"] == 5
    assert fly.get("/999/count").status == 404


def test_a_websocket_is_opened_with_the_right_machine(fly: Cloud) -> None:
    with Line.to(fly.simulator.port) as line:
        assert talking(line, "/200/upgrade")
    eventually(lambda: any("GET /200/upgrade  m1 replays" in hops and "m2 101" in hops for hops in fly.hops))


def test_machines_which_disagree_about_a_user_make_no_circle(fly: Cloud) -> None:
    """Each pins the user to the next: a request that one of them sends is served."""
    assert [fly.add("/round", at=at) for at in ("m2", "m3", "m1")] == [1, 2, 3]


def test_a_user_is_taken_by_one_of_many_machines_asked_at_once(fly: Cloud) -> None:
    with ThreadPoolExecutor(9) as pool:
        counts = list(pool.map(lambda at: fly.add("/ann", at=at), [*HOMES] * 3))
    assert sorted(counts) == list(range(1, 10))
    assert fly.owner("ann") in HOMES


def test_no_user_is_started_by_hand_on_the_wrong_machine(fly: Cloud) -> None:
    refused = cli(fly, "m1", "start", "300")
    assert refused.returncode == 1
    assert f"300 belongs to machine {fly.id('m3')}: start it there" in refused.stderr
    assert cli(fly, "m1", "restart", "300").returncode == 1
    assert cli(fly, "m1", "start", "100").returncode == 0
    assert fly.owner("300") == "m3"


@pytest.mark.parametrize("fault", ["silent", "servfail", "nxdomain"])
def test_while_dns_and_api_are_away_all_users_with_a_machine_are_served(fly: Cloud, fault: str) -> None:
    fly.add("/cid", at="m2")
    before = {user: fly.get(f"/{user}/count").json["count"] for user in (*HOMES.values(), "ann", "cid")}
    fly.fail(dns=fault, api="away")
    try:
        asked = [(user, at) for user in before for at in HOMES]
        with ThreadPoolExecutor(len(asked)) as pool:
            counts = list(pool.map(lambda one: fly.get(f"/{one[0]}/count", at=one[1]).json["count"], asked))
        assert counts == [before[user] for user, _ in asked]
        stranger = f"/99{len(fault)}/count"
        assert fly.get(stranger).status in (404, 503)
    finally:
        fly.fail()
    eventually(lambda: fly.get(stranger).status == 404)


def test_a_sleeping_user_is_woken_with_all_its_data(fly: Cloud) -> None:
    before = fly.add("/300")
    fly.stop("m3")
    assert fly.owner("300") is None
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: fly.add("/300"), range(4)))
    assert sorted(counts) == [before + n for n in range(1, 5)]
    fly.suspend("m3")
    assert fly.add("/300") == before + 5
    assert fly.owner("300") == "m3"
    for state in ("stopped", "suspended"):  # the proxy notes a request once its last byte is sent
        eventually(lambda: any(f"wakes m3 ({state})" in hops for hops in fly.hops), what=state)  # noqa: B023


LIES = (
    {"fly_replay_src": "instance={home};region=iad;t=1;state=flyatc.1.1800000000.m." + "0" * 32},
    {"fly_replay_failed": "instance={home};app=sim;region=syd;reason=timeout;elapsed_ms=30000"},
    {"fly_replay_cache_status": "hit"},
    {"fly_prefer_instance_id": "{here}"},
    {"fly_preferred_instance_unavailable": "{home}"},
    {"fly_force_region": "iad"},
    {"fly_prefer_region": "iad", "fly_region": "iad"},
    {"flyatc_owner": "sim/{here}"},
)


@pytest.mark.parametrize("lies", LIES, ids=lambda lies: next(iter(lies)))
def test_no_header_of_a_client_makes_a_machine_serve_a_user_of_another(fly: Cloud, lies: dict[str, str]) -> None:
    """Each of them asks m1, in iad, for the user of m3, who may be released."""
    before = fly.add("/300")
    given = {name: text.format(home=fly.id("m3"), here=fly.id("m1")) for name, text in lies.items()}
    for _ in range(3):
        answer = fly.get("/300/count", **given)
        straight = fly.straight("m1", "GET", "/300/count", **given)
        if "fly_replay_failed" in lies:
            assert answer.status == straight.status == 503
        else:
            assert answer.json["count"] == before
            assert straight.headers["fly-replay"].startswith(f"instance={fly.id('m3')};")
    assert fly.owner("300") == "m3"
    assert not fly.reported("m1", "user owned", user="300")


def test_the_clients_address_is_what_the_proxy_says(fly: Cloud) -> None:
    fly.get("/100/echo", at="m1", fly_client_ip="203.0.113.9", x_forwarded_for="203.0.113.9")
    reported = fly.until_reported("m1", "request", path="/100/echo")
    assert reported["remote"] == "127.0.0.1"


# --- the last tests: two machines are struck at once, so that the wait for others to take over is one ---


@dataclass
class Struck:
    """m3's host is lost; m2 has lost its way to the store. ``rows``: of 300, who lives with m3, of 200 and of dan, who
    live with m2; all saved. ``socket``: dan's, open; ``line``: a connection to m2 which is kept open."""

    rows: dict[str, int]
    socket: Line
    line: Line


@pytest.fixture(scope="module")
def struck(fly: Cloud) -> Iterator[Struck]:
    rows = {user: fly.add(f"/{user}", at=at) for user, at in (("300", "m3"), ("200", "m2"), ("dan", "m2"))}
    assert fly.owner("dan") == "m2"
    for user, at in (("300", "m3"), ("200", "m2"), ("dan", "m2")):
        assert cli(fly, at, "backup", user).returncode == 0
    with Line.to(fly.simulator.port, 60) as socket, Line.to(fly["m2"].record.port, 60) as line:
        assert talking(socket, "/dan/upgrade", f"fly-force-instance-id: {fly.id('m2')}")
        assert line.get("/dan/count").json["count"] == rows["dan"]
        assert line.get(KEPT).one("x-cache") == "miss"
        assert line.get(KEPT).one("x-cache") == "hit"
        fly.kill("m3")
        fly.lines["m2"].black_hole()
        yield Struck(rows, socket, line)


def test_the_user_of_a_machine_whose_host_is_lost_is_served_by_another_within_a_bounded_time(
    fly: Cloud, struck: Struck
) -> None:
    """Although its loss is reported to no machine."""
    statuses: list[int] = []

    def served() -> bool:
        statuses.append(fly.get("/300/count").status)
        return statuses[-1] == 200

    eventually(served, 60, "300 is served again")
    assert set(statuses) <= {200, 503}
    assert fly.owner("300") == "m1"
    assert fly.get("/300/count").json["count"] == struck.rows["300"]
    fly.start("m3")
    assert fly.add("/300", at="m3") == struck.rows["300"] + 1, "it lives elsewhere now"
    assert fly.owner("300") == "m1"


def test_what_comes_late_to_a_machine_which_has_lost_a_user_is_sent_on(fly: Cloud, struck: Struck) -> None:
    """By the metadata dan belongs to no machine, so m4 takes this user as soon as the store allows it."""
    before = struck.rows["dan"]

    def taken() -> bool:
        answer = fly.get("/dan/count", at="m4")
        assert answer.status == 503 or answer.json["count"] == before
        return fly.owner("dan") == "m4"

    eventually(taken, 60, "m4 has taken dan")
    assert struck.socket.ended(), "m2 has cut it when its session ended"
    assert fly.add("/dan", at="m4") == before + 1
    struck.line.send(request(KEPT))  # m2 does not know yet
    fly.lines["m2"].pass_through()
    sent = struck.line.reply()
    if sent.status == 503:  # it had no answer from the store for too long
        sent = eventually(lambda: (reply := struck.line.get("/dan/count")).status == 409 and reply, 20, "a replay")
    assert sent.status == 409
    assert str(sent.one("fly-replay")).startswith(f"instance={fly.id('m4')};")
    assert fly.add("/dan", at="m2") == before + 2
    with Line.to(fly.simulator.port) as line:
        assert talking(line, "/dan/upgrade", f"fly-force-instance-id: {fly.id('m2')}")


def test_a_machine_which_finds_its_store_again_goes_on_with_users_that_were_not_taken(
    fly: Cloud, struck: Struck
) -> None:
    fly.lines["m2"].pass_through()
    found = eventually(lambda: (answer := fly.get("/200/count")).status == 200 and answer, 20)
    assert found.json["count"] == struck.rows["200"]
    assert fly.owner("200") == "m2"
