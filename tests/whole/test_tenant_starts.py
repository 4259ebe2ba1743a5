"""Starts: which requests wait, which do not, and what is reported when a start fails."""

import hashlib
import json
import re
import socket
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flyatc.config import placeholders
from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, config, eventually, restless

PAGE = {"Accept": "text/html,application/xhtml+xml"}


def users(**tenants: tuple[str, ...]) -> str:
    """Each keyword is a user without tenants, whose app has these flags."""
    entries = [f"  {name}: {{command: {restless(*flags)}}}" for name, flags in tenants.items()]
    return "\n".join(["users:", *entries])


def latencies(port: int, until: threading.Event) -> list[float]:
    """Of requests on one connection, one after the other."""
    found = []
    with socket.create_connection(("127.0.0.1", port), 30) as raw:
        while not until.is_set():
            began = time.monotonic()
            raw.sendall(b"GET /quick/up HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
            found.append(time.monotonic() - began)
    return found


def test_cold_starts_do_not_delay_a_warm_tenant(start: StartDaemon) -> None:
    slow = {f"slow{n}": ("--ready-after", "0.4") for n in range(6)}
    daemon = start(config(users=users(big=(), **slow) + f"\n  quick: {{command: {restless()}, idle: 0}}", idle="300ms"))
    assert daemon.post("/big/grow?mb=20").status == 200
    daemon.until_reported("tenant stopped", tenant="big")
    app = int(daemon.get("/quick/echo?env=PORT").json["env"]["PORT"])
    rounds = []
    for turn in range(4):  # a busy machine may spoil one round; a blocked loop spoils all
        evidence.database(daemon, "big").unlink()
        over = threading.Event()
        with ThreadPoolExecutor(9) as pool:
            warm, direct = pool.submit(latencies, daemon.port, over), pool.submit(latencies, app, over)
            cold = [pool.submit(daemon.get, f"/{name}/up") for name in slow]
            cold.append(pool.submit(daemon.get, "/big/count"))
            assert {one.result().status for one in cold} == {200}
            over.set()
        rounds.append((max(warm.result()) - max(direct.result()), statistics.median(warm.result())))
        if rounds[-1][0] < 0.05:
            break
        eventually(lambda: len(daemon.reported("tenant stopped", tenant="big")) == 2 + turn, what="the next round")  # noqa: B023
    assert len(daemon.reported("restored", tenant="big")) == len(rounds)
    assert min(most for most, _ in rounds) < 0.05 * SLOWNESS, "more than without us between"
    assert min(median for _, median in rounds) < 0.01 * SLOWNESS


def test_a_client_that_leaves_does_not_stop_the_start(start: StartDaemon) -> None:
    daemon = start(config(flags=("--ready-after", "0.4")))
    with daemon.connect() as raw:
        raw.sendall(b"GET /ann/one/up HTTP/1.1\r\nHost: x\r\n\r\n")
        daemon.until_reported("tenant starting", tenant="ann/one")
    daemon.until_reported("request", status=499)
    daemon.until_reported("tenant ready", tenant="ann/one")
    assert daemon.get("/ann/one/up").status == 200
    assert daemon.until_reported("request", status=200)["start"] == "warm"


def test_a_start_that_takes_too_long_is_503_and_its_app_is_ended(start: StartDaemon) -> None:
    late, deaf = ("--ready-after", "60"), ("--bind-late", "60")
    app = f"  start_timeout: {round(400 * SLOWNESS)}ms\n  waiting_page_after: 30s"
    daemon = start(config(users=users(late=late, deaf=deaf), app=app))
    with ThreadPoolExecutor(2) as pool:
        robot, page = pool.map(lambda asked: daemon.get(*asked), [("/late/up",), ("/deaf/up", PAGE)])
    assert robot.status == page.status == 503
    assert robot.headers["Retry-After"]
    assert robot.headers["Content-Type"].startswith("application/json")
    assert page.headers["Content-Type"].startswith("text/html")
    failed = daemon.until_reported("the start failed", tenant="late")
    assert failed["kind"] == "NotReadyInTime"
    seen = r"it was starting\. The last try, http://127\.0\.0\.1:\d+: nothing listens there; an app must listen on 127"
    assert re.search(seen, failed["reason"])
    assert daemon.status("late")["reason"] == failed["reason"]
    daemon.until_reported("tenant failed", tenant="late")
    daemon.until_reported("tenant failed", tenant="deaf")
    assert evidence.runs(daemon) == []
    assert daemon.get("/late/up").status == 502, "during the back-off no one has waited"
    assert len(daemon.reported("tenant starting", tenant="late")) == 1


def test_a_slow_start_shows_browsers_a_page_while_a_form_waits_and_arrives_whole(start: StartDaemon) -> None:
    daemon = start(config(flags=("--ready-after", "1.2"), app="  waiting_page_after: 200ms"))
    form = b"x" * 300_000
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(daemon.post, "/ann/one/echo", form, PAGE)
        began = time.monotonic()
        page = daemon.get("/ann/one/up", PAGE)
        assert 0.2 <= time.monotonic() - began < 1.0 * SLOWNESS
        assert page.status == 503
        assert page.headers["Cache-Control"] == "no-store"
        assert int(page.headers["Retry-After"]) >= 1
        seen = posted.result().json
    assert (seen["length"], seen["sha256"]) == (len(form), hashlib.sha256(form).hexdigest())
    assert daemon.get("/ann/one/up", PAGE).status == 200
    assert len(daemon.reported("tenant starting")) == 1


def test_an_app_that_binds_late_is_waited_for(start: StartDaemon) -> None:
    daemon = start(config(users=users(late=("--bind-late", "0.5"), unwell=("--unwell-for", "0.5")), app="  ready: /up"))
    assert daemon.get("/late/up").text == "up"
    assert daemon.get("/unwell/up").text == "up"


def test_an_app_that_ends_at_once_is_502_within_a_second_and_says_why_in_the_log(start: StartDaemon) -> None:
    failing = ("--exit-at-once", "7", "--last-words", "no licence")
    missing = "{command: [/no/such/program]}"
    daemon = start(config(users=users(failing=failing) + f"\n  missing: {missing}"))
    began = time.monotonic()
    answer = daemon.get("/failing/up")
    assert time.monotonic() - began < 1.0 * SLOWNESS
    assert answer.status == 502
    assert int(answer.headers["Retry-After"]) >= 1
    assert "licence" not in answer.text, "the reason is the operator's"
    reported = daemon.until_reported("the start failed", tenant="failing")
    assert "exit code 7" in reported["reason"]
    assert reported["output"] == ["about to exit with 7", "no licence"]
    assert daemon.get("/failing/up").status == 502
    assert len(daemon.reported("tenant starting", tenant="failing")) == 1, "it backs off"
    eventually(
        lambda: daemon.get("/failing/up").status and len(daemon.reported("tenant starting", tenant="failing")) == 2
    )
    assert daemon.get("/missing/up").status == 502
    assert "there is no such program" in daemon.until_reported("the start failed", tenant="missing")["reason"]


def test_an_app_that_answers_garbage_is_not_ready_and_never_passed_on(start: StartDaemon) -> None:
    daemon = start(
        config(users=users(checked=("--garbage",)) + f"\n  blind: {{command: {restless('--garbage')}, ready: null}}",
               app=f"  ready: /up\n  start_timeout: {round(500 * SLOWNESS)}ms")
    )  # fmt: skip
    assert daemon.get("/checked/up").status == 503
    reason = daemon.until_reported("the start failed", tenant="checked")["reason"]
    assert re.search(r"http://127\.0\.0\.1:\d+/up: the response is not HTTP/1$", reason)
    answer = daemon.get("/blind/up")
    assert answer.status == 502
    assert b"SSH" not in answer.body


ASKED = """
import http.server, json, os
class App(http.server.BaseHTTPRequestHandler):
    asked = []
    def do_GET(self):
        self.asked.append([self.path, self.headers["Host"]])
        body = json.dumps(self.asked).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"""


def test_readiness_below_a_stripped_prefix_is_one_address_for_probe_and_clients(start: StartDaemon) -> None:
    ann, bob = "ready: '{prefix}/up', ready_host: '{user}.example.com'", "ready: /up"
    command = json.dumps([sys.executable, "-c", placeholders.escape(ASKED)])
    users = "".join(f"  {user}: {{command: {command}, {more}}}\n" for user, more in (("ann", ann), ("bob", bob)))
    daemon = start(config(users=f"users:\n{users}", app="  strip_prefix: true"))
    for user, host in (("ann", "ann.example.com"), ("bob", "127.0.0.1")):
        assert daemon.get(f"/{user}/up").text == "asleep\n"
        probe, first = daemon.get(f"/{user}/up/up").json
        assert probe == ["/up", host]
        assert first[0] == "/up/up", "an address like any other"
        assert daemon.get(f"/{user}/up").json[-1][0] == "/up"


def test_health_checks_start_no_tenant_and_keep_none_running(start: StartDaemon) -> None:
    daemon = start(config(server="  health: /healthz", app='  ready: "{prefix}/up"', idle="400ms"))
    assert daemon.get("/healthz").status == 200
    assert (daemon.get("/ann/one/up").status, daemon.get("/ann/one/up").text) == (200, "asleep\n")
    assert daemon.reported("tenant ") == []
    assert daemon.get("/ann/one/echo").status == 200
    assert daemon.get("/ann/one/up").text == "up", "the running app is asked"

    def asked() -> bool:
        daemon.get("/ann/one/up")
        return bool(daemon.reported("tenant stopped", tenant="ann/one"))

    eventually(asked, what="the idle stop in spite of the checks")
    assert daemon.get("/ann/one/up").text == "asleep\n"
    assert len(daemon.reported("tenant starting")) == 1


def test_an_app_sees_nothing_of_the_daemons_secrets_and_a_port_of_its_own(start: StartDaemon) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "iad",
        "BUCKET_NAME": "b",
        "FLYATC_ANY": "f",
        "HARMLESS": "h",
    }
    given = 'env: {AWS_REGION: "${AWS_REGION}", HARMLESS: null, WHO: "{user}/{tenant}"}'
    daemon = start(
        config(users=f"users: {{ann: {{tenants: {{one: null, two: {{{given}}}}}}}}}").replace(
            "{interval: 0}", "{interval: 0, url: 'file:./store'}"
        ),
        env={**secrets, "PORT": "0"},
    )
    asked = "&".join(f"env={name}" for name in (*secrets, "PORT", "WHO", "DATABASE_PATH"))
    one, two = (daemon.get(f"/ann/{name}/echo?{asked}").json["env"] for name in ("one", "two"))
    assert [one[name] for name in secrets] == [None, None, None, None, "h"]
    assert [two[name] for name in secrets] == [None, "iad", None, None, None]
    assert two["WHO"] == "ann/two"
    assert one["PORT"] != two["PORT"]
    assert {one["PORT"], two["PORT"]}.isdisjoint({"0", str(daemon.port)})
    assert one["DATABASE_PATH"] == str(evidence.database(daemon, "ann/one"))
    with socket.create_connection(("127.0.0.1", int(one["PORT"])), 5):
        pass


def test_the_port_variable_wins_over_the_file(start: StartDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = start(config().replace("127.0.0.1:0", f"127.0.0.1:{port}"), env={"PORT": "0"})
    assert daemon.port != port
    assert daemon.get("/ann/one/up").status == 200
