"""Stops: what keeps an app running, what does not, and no request fails because of a stop."""

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually, restless

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextmanager
def upgraded(daemon: Daemon, path: str, status: int) -> Iterator[socket.socket]:
    with daemon.connect() as raw:
        raw.sendall(UPGRADE.format(path=path).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += raw.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        yield raw


def test_a_request_that_races_an_idle_stop_is_never_answered_with_an_error(start: StartDaemon) -> None:
    idle = 0.06
    names = [f"t{n}" for n in range(8)]
    daemon = start(config(users=f"users: {{ann: {{tenants: [{', '.join(names)}]}}}}", idle=f"{idle}s"))

    def visits(name: str) -> list[int]:
        dice, found = random.Random(name), []
        for number in range(25):
            asked = daemon.get if number % 3 else daemon.post
            found.append(asked(f"/ann/{name}/{'count' if number % 3 else 'add'}").status)
            time.sleep(idle + dice.uniform(-0.01, 0.04))  # noqa: TID251 - to come just when it stops, or just after
        return found

    with ThreadPoolExecutor(len(names)) as pool:
        answers = [status for some in pool.map(visits, names) for status in some]
    assert answers == [200] * 200
    assert len(daemon.reported("tenant draining")) > 20, "they did race"
    assert [daemon.get(f"/ann/{name}/count").json["count"] for name in names] == [9] * 8
    assert daemon.reported("unexpected error") == []


def test_a_request_that_is_longer_than_idle_is_answered_and_the_stop_comes_after_it(start: StartDaemon) -> None:
    daemon = start(config(idle="200ms"))
    assert daemon.get("/ann/one/slow?s=1").text == "slow"
    stopped = daemon.until_reported("tenant draining", tenant="ann/one")
    assert stopped["time"] > daemon.until_reported("request", tenant="ann/one")["time"]
    assert len(daemon.reported("tenant starting")) == 1


def test_an_open_websocket_keeps_the_app_and_its_end_lets_it_go(start: StartDaemon) -> None:
    daemon = start(config(idle="300ms"))
    with upgraded(daemon, "/ann/one/upgrade", 101) as raw:
        for _ in range(2):  # twice the other's whole idle time
            stops = len(daemon.reported("tenant stopped", tenant="ann/two"))
            assert daemon.get("/ann/two/up").status == 200
            eventually(lambda: len(daemon.reported("tenant stopped", tenant="ann/two")) > stops)  # noqa: B023
        raw.sendall(b"still here")
        assert raw.recv(100) == b"still here"
        assert daemon.reported("tenant draining", tenant="ann/one") == []
    daemon.until_reported("tenant stopped", tenant="ann/one")


def test_a_refused_upgrade_keeps_no_tenant_running(start: StartDaemon) -> None:
    daemon = start(config(idle="200ms"))
    with upgraded(daemon, "/ann/one/upgrade?refuse=1", 403):
        daemon.until_reported("tenant stopped", tenant="ann/one")


def test_an_app_that_ignores_sigterm_is_killed_with_all_that_came_from_it(start: StartDaemon) -> None:
    daemon = start(
        config(flags=("--ignore-term", "--fork-child"), app="  ready: /up", idle="200ms").replace("2s", "300ms")
    )
    app = daemon.get("/ann/one/echo?env=PORT").json
    grandchild = int(daemon.until_reported("grandchild ")["msg"].split()[1])
    assert evidence.alive(grandchild)
    stopped = daemon.until_reported("tenant stopped", tenant="ann/one")
    assert daemon.until_reported("the app did not end by itself and was killed")["time"] < stopped["time"]
    assert not evidence.alive(app["pid"])
    assert not evidence.alive(grandchild)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(app["env"]["PORT"]))) != 0


def test_a_grandchild_that_outlives_the_app_does_not_hold_up_its_stop_and_is_ended(start: StartDaemon) -> None:
    daemon = start(config(flags=("--fork-child", "group", "--child-holds-db"), idle="200ms").replace("2s", "300ms"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    grandchild = int(daemon.until_reported("grandchild ")["msg"].split()[1])
    daemon.until_reported("tenant stopped", tenant="ann/one")
    assert not evidence.alive(grandchild)
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1


def test_the_least_recently_used_idle_app_makes_room_and_there_are_never_more_than_the_limit(
    start: StartDaemon,
) -> None:
    names = [f"t{n}" for n in range(30)]
    listed = f"users: {{ann: {{tenants: [{', '.join(names)}]}}}}"
    daemon = start(config(users=listed, top="limits: {running: 4}"))
    with evidence.Most(lambda: len(evidence.runs(daemon))) as most:
        for name in [*names[:4], names[0], names[4]]:
            assert daemon.get(f"/ann/{name}/up").status == 200
        daemon.until_reported("tenant stopped", tenant="ann/t1")
        assert len(daemon.reported("tenant draining")) == 1
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda name: daemon.post(f"/ann/{name}/add"), names))
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["count"] for answer in answers} == {1}
    assert most.seen == 4


def test_without_an_idle_tenant_a_client_waits_for_a_place_and_then_gets_503(start: StartDaemon) -> None:
    hasty = f"{{command: {restless()}, start_timeout: 300ms}}"
    users = f"users: {{busy: {{}}, patient: {{}}, hasty: {hasty}}}"
    daemon = start(config(users=users, top="limits: {running: 1}"))
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(daemon.get, "/busy/slow?s=1.5")
        daemon.until_reported("tenant ready", tenant="busy")
        patient = pool.submit(daemon.get, "/patient/up")
        daemon.until_reported("tenant owning", tenant="patient")
        refused = daemon.get("/hasty/up")
        assert not busy.done()
        assert refused.status == 503
        assert refused.headers["Retry-After"]
        assert busy.result().status == patient.result().status == 200
    assert daemon.until_reported("the start failed", tenant="hasty")["kind"] == "Full"
