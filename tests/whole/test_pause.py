"""flyatc pause and resume: requests are held, not refused, while an app is changed (as kamal-proxy's pause)."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flyatc.control.client import Client
from flyatc.control.types import Drained, Overview, Paused, Resumed, Switched
from slowness import SLOWNESS
from whole.conftest import StartDaemon
from whole.daemon import Daemon, clean_environment, config, eventually
from whole.visits import Line, get, request, serving

HELD = 4
USERS = (
    "users: {ann: {tenants: [one, two]}, bob: null, eve: null, joe: null, kim: null, max: null, sue: null, tom: null}"
)
UPGRADE = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA")
PUBLIC = "headers?set=Cache-Control:public,max-age=60"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("pause")
    (folder / "assets").mkdir()
    (folder / "assets" / "site.css").write_text("body {}")
    app = f"  ready: '{{prefix}}/up'\n  delivery: {{static: [{{path: /assets, folder: {folder / 'assets'}}}]}}"
    text = config(app=app, server="  health: /up", users=USERS, top=f"limits: {{held: {HELD}}}")
    with serving(folder, text) as one:
        yield one


@pytest.fixture(autouse=True)
def resumed(request: pytest.FixtureRequest) -> Iterator[None]:
    """The next test finds nothing paused."""
    yield
    if "daemon" in request.fixturenames:
        resume(request.getfixturevalue("daemon"))


def control(daemon: Daemon) -> Client:
    return Client(str(daemon.folder / "data"))


def pause(daemon: Daemon, scope: str | None, limit: float = 30.0) -> Drained:
    return control(daemon).post("/pause", Drained, address=scope, limit=limit)


def resume(daemon: Daemon, scope: str | None = None) -> int | None:
    return control(daemon).post("/resume", Resumed, address=scope).released


def close(daemon: Daemon, scope: str | None, message: str | None, *, closed: bool = True) -> None:
    control(daemon).post("/maintenance", Switched, address=scope, message=message, closed=closed)


def pauses(daemon: Daemon) -> list[Paused]:
    return control(daemon).get("/status", Overview).paused


def until_waiting(daemon: Daemon, count: int) -> None:
    eventually(lambda: sum(one.waiting for one in pauses(daemon)) == count, what=f"{count} waiting")


@contextlib.contextmanager
def visitors(daemon: Daemon, *targets: str) -> Iterator[list[Line]]:
    """Each on a connection of its own, and held before the next one comes."""
    with contextlib.ExitStack() as stack:
        lines = []
        for number, target in enumerate(targets):
            lines.append(stack.enter_context(Line(daemon)).send(request(target)))
            until_waiting(daemon, number + 1)
        yield lines


def test_a_paused_request_starts_no_app_and_is_served_at_resume(daemon: Daemon) -> None:
    run = daemon.cli("pause", "ann")
    assert (run.returncode, run.stdout) == (0, "ann is paused, nothing is in flight\n")
    with visitors(daemon, "/ann/one/echo", "/ann/one/echo", "/ann/two/echo") as lines:
        assert daemon.get("/bob/echo").status == 200  # not paused
        status = daemon.cli("status")
        assert [line.split()[-5:] for line in status.stdout.splitlines() if "paused" in line] == [
            ["paused", "with", "ann,", "3", "waiting"],
            ["paused", "with", "ann,", "3", "waiting"],
        ]
        tenants = {one.tenant: one for one in control(daemon).get("/status", Overview).tenants}
        assert {(tenants[name].state, tenants[name].requests) for name in ("ann/one", "ann/two")} == {("stopped", 0)}
        run = daemon.cli("resume", "ann")
        assert (run.returncode, run.stdout) == (0, "ann goes on; 3 requests waited\n")
        assert [line.reply().status for line in lines] == [200] * 3
    reported = daemon.until_reported("resumed", scope="ann")
    assert (reported["held"], reported["refused"], reported["left"]) == (3, 0, 0)
    assert reported["longest_wait_ms"] > 0
    line = daemon.until_reported("request", tenant="ann/two")
    assert line["reason"].startswith("held for ")
    assert line["ms"] > line["wait_ms"]  # which is of the start alone


def test_a_request_paused_beyond_the_limit_gets_503_with_retry_after(daemon: Daemon) -> None:
    pause(daemon, "bob", 0.2)
    answer, page = daemon.post("/bob/add"), daemon.get("/bob/echo", {"Accept": "text/html"})
    assert (answer.status, answer.headers["Retry-After"], answer.json["retry_after"]) == (503, "5", 5)
    assert (page.status, page.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    reported = daemon.until_reported("request", path="/bob/add", status=503)
    assert reported["reason"] == "paused (bob): not resumed within 0.2 s"
    assert reported["ms"] >= 199


def test_there_is_room_for_so_many_and_no_more(daemon: Daemon) -> None:
    pause(daemon, None)
    with visitors(daemon, *["/bob/echo"] * HELD) as lines:
        more = daemon.get("/eve/echo")
        assert (more.status, more.headers["Retry-After"]) == (503, "5")
        reported = daemon.until_reported("request", path="/eve/echo", status=503)
        assert reported["reason"].endswith("which is limits.held")
        lines[0].socket.close()  # a client that leaves ends its own wait, and makes room
        until_waiting(daemon, HELD - 1)
        assert daemon.until_reported("request", path="/bob/echo", status=499)["reason"].startswith("the client left")
        assert resume(daemon) == HELD - 1
        assert [line.reply().status for line in lines[1:]] == [200] * (HELD - 1)
    assert daemon.until_reported("resumed", scope="everything")["left"] == 1


def test_what_needs_no_app_is_answered_meanwhile(daemon: Daemon) -> None:
    assert daemon.get(f"/joe/{PUBLIC}").headers["X-Cache"] == "miss"
    pause(daemon, "joe", 0.01)
    assert daemon.get("/up").status == 200
    assert daemon.get("/joe/up").text == "paused (joe)\n"
    assert daemon.get("/joe/assets/site.css").text == "body {}"
    assert daemon.get(f"/joe/{PUBLIC}").headers["X-Cache"] == "hit"
    assert daemon.get(f"/joe/{PUBLIC}&set=X-Other:1").status == 503  # not in the cache


def test_requests_that_waited_for_the_same_share_one_response(daemon: Daemon) -> None:
    pause(daemon, "kim")
    with visitors(daemon, *[f"/kim/{PUBLIC}"] * 3) as lines:
        resume(daemon)
        caches = sorted(line.reply().one("x-cache") or "" for line in lines)
    assert caches == ["hit", "hit", "miss"]


def test_what_is_in_flight_goes_on_and_is_waited_for(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(b"POST /max/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        eventually(lambda: daemon.get("/max/up").text == "up")
        run = daemon.cli("pause", "max", "--limit", "100ms")
        assert run.returncode == 1
        assert "max is paused, but after 100ms 1 request still in flight" in run.stderr
        command = [sys.executable, "-m", "flyatc", "pause", "max", "--config", str(daemon.config_file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment(), text=True) as again:
            daemon.until_reported("paused", scope="max", limit=30.0)
            assert line.send(b"llo").reply().json["length"] == 5
            assert again.communicate()[0] == "max is paused, nothing is in flight\n"
    daemon.until_reported("drained", scope="max")


def test_an_upgrade_is_held_and_an_open_tunnel_goes_on(daemon: Daemon) -> None:
    with Line(daemon) as early, Line(daemon) as late:
        assert early.get("/sue/upgrade", *UPGRADE).status == 101
        assert pause(daemon, "sue") == Drained(requests=0, tunnels=1)
        assert early.send(b"still here").take(10) == b"still here"
        late.send(request("/sue/upgrade", *UPGRADE))
        until_waiting(daemon, 1)
        resume(daemon, "sue")
        assert late.reply().status == 101
        assert late.send(b"here now").take(8) == b"here now"


def test_the_body_of_a_paused_request_is_not_read(daemon: Daemon) -> None:
    body = os.urandom(1 << 20) * 16
    pause(daemon, "tom")
    with Line(daemon) as line:
        line.send(f"POST /tom/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        until_waiting(daemon, 1)
        line.socket.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(body):
                sent += line.socket.send(body[sent : sent + 65536])
        assert sent < len(body)
        resume(daemon)
        line.socket.settimeout(30 * SLOWNESS)
        assert line.send(body[sent:]).reply().json["sha256"] == hashlib.sha256(body).hexdigest()


def test_maintenance_wins_and_ends_the_wait_of_paused_requests(daemon: Daemon) -> None:
    pause(daemon, "ann/one")
    with visitors(daemon, "/ann/one/echo", "/ann/one/echo") as lines:
        close(daemon, "ann", "back at noon")
        assert [line.reply().json["error"] for line in lines] == ["back at noon"] * 2
        assert daemon.get("/ann/one/echo").json["error"] == "back at noon"  # at once
        assert "closed for maintenance" in daemon.cli("status").stdout
        close(daemon, "ann", None, closed=False)
        lines[0].send(request("/ann/one/echo"))
        until_waiting(daemon, 1)  # the pause is still there
        assert resume(daemon, "ann/one") == 1
        assert lines[0].reply().status == 200


def test_one_pause_lifted_leaves_the_other(daemon: Daemon) -> None:
    pause(daemon, "ann/one")
    pause(daemon, "ann", 20.0)
    with visitors(daemon, "/ann/one/echo") as (line,):
        assert resume(daemon, "ann/one") == 0
        assert [(one.scope, one.limit, one.waiting) for one in pauses(daemon)] == [("ann", 20.0, 1)]
        assert daemon.cli("resume", "ann/one").stdout == "ann/one was not paused\n"
        pause(daemon, "ann", 0.01)  # a new limit is for those who wait as well
        assert line.reply().status == 503


@pytest.mark.parametrize(
    ("arguments", "code", "reported"),
    [
        (("pause", "anm"), 1, "did you mean ann"),
        (("resume", "anm"), 1, "did you mean ann"),
        (("pause", "ann", "--limit", "0"), 2, "more than 0"),
        (("pause", "ann", "--limit", "soon"), 2, "not a duration"),
    ],
)
def test_impossible_pauses_are_refused_with_the_reason(
    daemon: Daemon, arguments: tuple[str, ...], code: int, reported: str
) -> None:
    run = daemon.cli(*arguments)
    assert run.returncode == code
    assert reported in run.stderr
    assert not pauses(daemon)


def test_a_pause_outlives_the_daemon_and_paused_requests_get_503(start: StartDaemon) -> None:
    daemon = start(config())
    pause(daemon, "ann")
    with visitors(daemon, "/ann/one/echo") as (line,):
        assert daemon.stop() == 0
        reply = line.reply()
        assert (reply.status, reply.one("connection")) == (503, "close")
    assert daemon.reported("request", status=503)[0]["reason"] == "the daemon is going away"
    daemon.start()
    daemon.until_reported("still paused", scope="ann")
    with visitors(daemon, "/ann/one/echo") as (line,):
        resume(daemon)
        assert line.reply().status == 200
    assert json.loads((daemon.folder / "data" / ".flyatc" / "paused.json").read_text()) == {}
    assert get(daemon, "/ann/one/echo").status == 200
