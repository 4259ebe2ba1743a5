"""Responses of flyatc itself: pages for browsers, JSON for programs, the waiting page, and the operator's own."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import SLOWNESS, Daemon, restless
from whole.visits import Line, get, parrot, request, serving

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
JSON = "Accept: application/json"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("errors")
    pages = {"404": "top 404", "502": "own 502", "waiting": "own waiting", "413": "own 413", "431": "top 431"}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(f"<p>{text}</p>")
    mute, late = restless("--bind-late", "1.2"), restless("--bind-late", "60")
    users = f"""
users:
  ann: null
  slow: {{command: {mute}, waiting_page_after: 200ms}}
  mine:
    command: {mute}
    waiting_page_after: 100ms
    pages: {{waiting: waiting.html, "502": 502.html, "413": 413.html}}
  never: {{command: {late}, start_timeout: 400ms, waiting_page_after: 10s}}
  neither: {{command: {late}, start_timeout: 400ms, waiting_page_after: 10s}}
  dead: {{command: {restless("--exit-at-once", "3")}}}
"""
    config = parrot(
        users=users, app='  pages: {"404": "404.html", "431": "431.html"}', top="limits: {request_body: 100}"
    )
    with serving(folder, config) as one:
        yield one


def test_a_browser_gets_a_page_and_a_program_gets_json(daemon: Daemon) -> None:
    page = get(daemon, "/ann/say?close=1", BROWSER, "X-Request-Id: <script>")
    assert (page.status, page.one("Content-Type")) == (502, "text/html; charset=utf-8")
    assert page.body.startswith(b"<!doctype html>")
    assert b"&lt;script&gt;" in page.body
    assert b"<script>" not in page.body
    assert page.one("Cache-Control") == "no-store"
    for accept in (JSON, "Accept: */*", "X: y"):
        answer = get(daemon, "/ann/say?close=1", accept, "X-Request-Id: id-1")
        assert answer.one("Content-Type") == "application/json"
        assert answer.json == {"error": "The application did not answer", "status": 502, "request_id": "id-1"}


def test_the_operators_own_pages_replace_ours(daemon: Daemon) -> None:
    assert get(daemon, "/nonesuch", BROWSER).body == b"<p>top 404</p>"
    assert get(daemon, "/nonesuch", JSON).json["status"] == 404
    assert get(daemon, "/mine/", BROWSER, "Content-Length: 101", method="POST").body == b"<p>own 413</p>"
    assert get(daemon, "/ann/", BROWSER, "X: " + "x" * 70_000).body == b"<p>top 431</p>"
    waiting = get(daemon, "/mine/", BROWSER)
    assert (waiting.status, waiting.body) == (503, b"<p>own waiting</p>")
    assert get(daemon, "/mine/die", JSON).status == 502
    assert get(daemon, "/mine/die", BROWSER, method="POST").body == b"<p>own 502</p>"


def test_a_browser_that_waits_is_shown_a_page_that_reloads_itself(daemon: Daemon) -> None:
    with Line(daemon) as line:
        began = time.monotonic()
        page = line.get("/slow/seen", BROWSER)
        assert time.monotonic() - began >= 0.2
        assert page.status == 503  # and not what the app says a second later
        assert page.one("Cache-Control") == "no-store"
        assert int(page.one("Retry-After") or 0) > 0
        assert b'http-equiv="refresh"' in page.body
        assert int(page.one("Refresh") or 0) > 0
        reported = daemon.until_reported("request", request_id=page.one("X-Request-Id"))
        assert (reported["status"], reported["tenant"], reported["start"]) == (503, "slow", "cold")
        daemon.until_reported("tenant ready", tenant="slow")  # it went on starting
        assert line.get("/slow/up", BROWSER).body == b"up"


@pytest.mark.parametrize(
    ("method", "accept", "body"),
    [("GET", JSON, b""), ("POST", BROWSER, b"kept"), ("GET", "Sec-Fetch-Dest: empty", b"")],
)
def test_what_is_no_page_load_waits_for_the_app_and_its_body_is_kept(
    tmp_path: Path, method: str, accept: str, body: bytes
) -> None:
    config = parrot(users=f"users: {{post: {{command: {restless('--bind-late', '0.6')}, waiting_page_after: 100ms}}}}")
    with serving(tmp_path, config) as daemon:
        reply = get(daemon, "/post/echo", accept, method=method, body=body)
        assert reply.status == 200
        assert (reply.json["method"], reply.json["length"]) == (method, len(body))
        reported = daemon.until_reported("request", request_id=reply.one("X-Request-Id"))
        assert reported["start"] == "cold"
        assert 600 <= reported["wait_ms"] <= reported["ms"]


def test_a_large_body_waits_for_a_cold_app_without_being_held_in_memory(tmp_path: Path) -> None:
    config = parrot(users=f"users: {{cold: {{command: {restless('--bind-late', '0.6')}}}}}")
    with serving(tmp_path, config) as daemon:
        reply = get(daemon, "/cold/upload", method="POST", body=bytes(30 << 20))
        assert reply.json["length"] == 30 << 20


def test_a_start_that_takes_too_long_is_503_with_a_time_to_come_again(daemon: Daemon) -> None:
    program = get(daemon, "/never/", JSON)
    assert (program.status, program.json["status"]) == (503, 503)
    assert int(program.one("Retry-After") or 0) == program.json["retry_after"] > 0
    browser = get(daemon, "/neither/", BROWSER)
    assert (browser.status, browser.one("Content-Type")) == (503, "text/html; charset=utf-8")


def test_an_app_that_does_not_start_is_502_at_once_and_the_reason_is_for_the_log_only(daemon: Daemon) -> None:
    began = time.monotonic()
    reply = get(daemon, "/dead/", BROWSER)
    assert time.monotonic() - began < 3 * SLOWNESS
    assert reply.status == 502
    assert b"exit" not in reply.body
    assert restless()[2:20].encode() not in reply.body
    reported = daemon.until_reported("request", request_id=reply.one("X-Request-Id"))
    assert "3" in reported["reason"]


@pytest.mark.parametrize("target", ["/nonesuch", "/ann", "/ann/say?close=1", "/dead/", "/bob/../"])
@pytest.mark.parametrize("accept", [BROWSER, JSON])
def test_an_error_to_a_head_has_a_length_and_no_body(daemon: Daemon, target: str, accept: str) -> None:
    with Line(daemon) as line:
        reply = line.get(target, accept, method="HEAD")
        assert reply.status >= 300
        assert int(reply.one("Content-Length") or -1) >= 0
        assert line.get("/ann/seen", accept).status == 200


def test_a_client_that_leaves_during_a_start_is_499_and_stops_no_start(tmp_path: Path) -> None:
    config = parrot(users=f"users: {{cold: {{command: {restless('--bind-late', '0.8')}}}}}")
    with serving(tmp_path, config) as daemon:
        with Line(daemon) as line:
            line.send(request("/cold/", "X-Request-Id: impatient"))
            daemon.until_reported("tenant starting", tenant="cold")
        reported = daemon.until_reported("request", request_id="impatient")
        assert (reported["status"], reported["start"]) == (499, "cold")
        daemon.until_reported("tenant ready", tenant="cold")
