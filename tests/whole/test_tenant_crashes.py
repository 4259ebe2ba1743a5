"""An app that ends by itself, and one that logs too much."""

import json
import os
import signal
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, config, eventually, restless


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_crash_is_mended_by_the_next_request_and_repeated_crashes_back_off(start: StartDaemon) -> None:
    daemon = start(config())
    first = daemon.get("/ann/one/echo").json["pid"]
    assert daemon.get("/ann/one/die?code=3").status == 502
    assert daemon.until_reported("the app ended by itself", tenant="ann/one")["exit"] == "exit code 3"
    assert daemon.get("/ann/one/echo").json["pid"] != first, "the first crash costs nothing"
    assert daemon.get("/ann/one/die?code=4").status == 502
    daemon.until_reported("the app ended by itself", exit="exit code 4")
    daemon.until_reported("tenant failed", tenant="ann/one")
    refused = daemon.get("/ann/one/up")
    assert refused.status == 502
    assert int(refused.headers["Retry-After"]) >= 1
    assert len(daemon.reported("tenant starting")) == 2
    assert daemon.get("/ann/two/up").status == 200
    eventually(lambda: daemon.get("/ann/one/up").status == 200, what="the end of the back-off")


def test_an_app_that_is_killed_leaves_no_zombie_and_is_started_anew(start: StartDaemon) -> None:
    daemon = start(config())
    assert daemon.post("/ann/one/add").json["count"] == 1
    pid = daemon.get("/ann/one/echo").json["pid"]
    os.kill(pid, signal.SIGKILL)
    daemon.until_reported("the app ended by itself", exit="killed by SIGKILL")
    eventually(lambda: not evidence.zombies(daemon.pid), 2, "the reaping")
    assert daemon.post("/ann/one/add").json["count"] == 2
    assert daemon.get("/ann/one/echo").json["pid"] != pid


def test_a_request_before_an_exit_is_noticed_is_served_by_the_next_run(start: StartDaemon) -> None:
    names = [f"t{n}" for n in range(12)]
    daemon = start(config(users=f"users: {{ann: {{tenants: [{', '.join(names)}]}}}}"))
    for name in names:
        app = daemon.get(f"/ann/{name}/echo?env=PORT").json
        os.kill(app["pid"], signal.SIGKILL)
        while connects(int(app["env"]["PORT"])) or evidence.alive(app["pid"]):
            pass  # the kernel closes the socket that listens first, then the connection that the daemon keeps
        answer = daemon.post(f"/ann/{name}/add", b"with a body")
        assert (answer.status, answer.json) == (200, {"count": 1})
    assert len(daemon.reported("the app ended by itself")) == len(names)


def test_an_app_that_dies_amid_a_response_cuts_the_connection(start: StartDaemon) -> None:
    daemon = start(config())
    daemon.get("/ann/one/up")
    got = daemon.exchange(b"GET /ann/one/die-mid-answer HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got.count(b"x") < 1000
    assert daemon.until_reported("request", path="/ann/one/die-mid-answer")["reason"]
    assert daemon.get("/ann/one/up").status == 200


def test_a_flood_of_output_stays_valid_and_costs_the_others_nothing(start: StartDaemon) -> None:
    flood = restless("--flood", "--binary-output", "--long-line", "1000000")
    daemon = start(config(users=f"users: {{flood: {{command: {flood}}}, quiet: {{}}}}", idle="400ms"))
    assert daemon.get("/quiet/up").status == 200
    rounds = []
    with ThreadPoolExecutor(1) as pool:
        over = threading.Event()
        pool.submit(lambda: [daemon.get("/flood/up") for _ in iter(over.is_set, True)])
        daemon.until_reported("tenant ready", tenant="flood")
        for _ in range(100):
            began = time.monotonic()
            assert daemon.get("/quiet/up").status == 200
            rounds.append(time.monotonic() - began)
        over.set()
    assert statistics.median(rounds) < 0.1 * SLOWNESS
    daemon.until_reported("tenant stopped", 20, tenant="flood")
    assert daemon.stop() == 0
    spoken = 0
    with daemon.log_file.open("rb") as log:
        for line in log:
            reported = json.loads(line)
            assert len(line) < 100_000
            spoken += reported.get("tenant") == "flood" and "stream" in reported
    assert spoken > 1000
    assert daemon.log_file.stat().st_size < 500_000_000
