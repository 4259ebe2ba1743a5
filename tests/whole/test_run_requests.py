"""Requests to a wrapped app: thruster's cases, with the differences that are meant."""

import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole import visits
from whole.visits import Line
from whole.wrapped import FOR_EVER, GATED_APP, RESTLESS_APP, Wrapped, upgraded, waits, wrapped


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    with wrapped(tmp_path_factory.mktemp("one")) as running:
        yield running


def echo(one: Wrapped, *headers: str) -> dict[str, list[str]]:
    """The headers that the app saw, by lower-case name."""
    seen: dict[str, list[str]] = {}
    for name, value in visits.get(one, "/echo", *headers).json["headers"]:
        seen.setdefault(name.lower(), []).append(value)
    return seen


# --- headers ---


def test_the_app_gets_the_clients_address(one: Wrapped) -> None:
    """Case 1."""
    seen = echo(one)
    assert seen["host"] == ["here.example"]
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-host"] == ["here.example"]
    assert seen["x-forwarded-proto"] == ["http"]
    assert re.fullmatch(r"t=\d{13}", seen["x-request-start"][0])


FROM_PROXIES = (
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-For: 5.6.7.8",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: pub.example",
    "Forwarded: for=9.9.9.9",
)


def test_headers_of_proxies_are_kept_and_extended(one: Wrapped) -> None:
    """Case 2."""
    seen = echo(one, *FROM_PROXIES)
    assert seen["x-forwarded-for"] == ["1.2.3.4, 5.6.7.8, 127.0.0.1"]
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == (["https"], ["pub.example"])
    assert "forwarded" not in seen


def test_a_request_start_header_is_kept_and_hop_by_hop_headers_end_here(one: Wrapped) -> None:
    """Cases 4 and 5."""
    seen = echo(one, "X-Request-Start: t=5", "Connection: close, X-Foo", "X-Foo: 1")
    assert seen["x-request-start"] == ["t=5"]
    assert "x-foo" not in seen


def test_every_path_is_the_apps_byte_for_byte(one: Wrapped) -> None:
    """A difference from thruster that is meant: there a query with ";" is made anew."""
    for target in ("/a/../b//c%2Fd/echo?p=a;b&c=%zz", "/echo", "/~x/echo?"):
        assert visits.get(one, target).json["path"] == target
    assert visits.get(one, "/").status == 404


def test_the_apps_own_replay_reaches_fly(one: Wrapped) -> None:
    """Behind ``flyatc serve`` it does not: there the apps are not all one's own."""
    reply = visits.get(one, "/headers?set=fly-replay:region=sjc&set=Fly-Replay-Cache:/x")
    assert reply.headers[2:4] == [("fly-replay", "region=sjc"), ("Fly-Replay-Cache", "/x")]


def test_a_head_of_a_hundred_kilobytes_passes(one: Wrapped) -> None:
    seen = echo(one, *(f"X-Large-{n}: {'x' * 1000}" for n in range(100)))
    assert len(seen["x-large-99"][0]) == 1000


# --- before the app listens, and when it does not ---


def test_clients_that_come_before_the_app_wait_for_it_and_their_bodies_are_kept(tmp_path: Path) -> None:
    """The difference from thruster that is meant most: there they get a 502."""
    with wrapped(tmp_path, *GATED_APP) as one, Line(one) as first, Line(one) as second, Line(one) as third:
        waits(first, visits.request("/upload", "Content-Length: 300000", method="POST"))
        waits(second, visits.request("/up"))
        waits(third, visits.request("/up"))
        one.end_input()
        assert first.send(b"x" * 300_000).reply().json["length"] == 300_000
        assert second.reply().body == third.reply().body == b"up"
        reported = one.until_reported("request", path="/upload")
        assert (reported["status"], reported["start"]) == (200, "cold")
        assert reported["wait_ms"] > 0
        one.get("/up?again")
        assert one.until_reported("request", query="again")["start"] == "warm"


def test_a_client_that_leaves_while_waiting_is_499(tmp_path: Path) -> None:
    with wrapped(tmp_path, *FOR_EVER) as one:
        with Line(one) as line:
            line.send(visits.request("/left"))
        assert one.until_reported("request", path="/left")["status"] == 499


def test_a_client_that_waited_long_enough_gets_502_and_so_do_later_ones(tmp_path: Path) -> None:
    with wrapped(tmp_path, *FOR_EVER, env={"START_TIMEOUT": "300ms"}) as one:
        assert one.get("/up").status == 502
        assert one.get("/up").status == 502
        one.until_reported("the app does not listen", level="warning")


def test_an_app_that_listens_after_all_is_served(tmp_path: Path) -> None:
    with wrapped(tmp_path, *GATED_APP, env={"START_TIMEOUT": "0"}) as one:
        assert one.get("/up").status == 502
        one.end_input()
        one.until_said("listening on")
        assert one.get("/up").status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_502_without_a_page_is_empty(tmp_path: Path, method: str) -> None:
    """Case 31."""
    with wrapped(tmp_path, *FOR_EVER, env={"START_TIMEOUT": "0"}) as one:
        answer = one.request(method, "/", b"body" if method == "POST" else None, {"Accept": "text/html"})
        assert (answer.status, answer.headers["Content-Length"], answer.body) == (502, "0", b"")


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("env", [{}, {"THRUSTER_BAD_GATEWAY_PAGE": "own/page.html"}])
def test_a_502_is_the_operators_page_as_it_was_at_the_start(tmp_path: Path, method: str, env: dict[str, str]) -> None:
    """Case 31."""
    page = tmp_path / env.get("THRUSTER_BAD_GATEWAY_PAGE", "public/502.html")
    page.parent.mkdir()
    page.write_bytes(b"<h1>Soon</h1>")
    with wrapped(tmp_path, *FOR_EVER, env={"START_TIMEOUT": "0", **env}) as one:
        page.unlink()
        answer = one.request(method, "/", b"body" if method == "POST" else None, {"Accept": "*/*"})
        assert (answer.status, answer.headers["Content-Type"]) == (502, "text/html")
        assert answer.headers["Content-Length"] == "13"
        assert answer.body == (b"" if method == "HEAD" else b"<h1>Soon</h1>")


def test_an_app_that_stops_listening_is_502(tmp_path: Path) -> None:
    with wrapped(tmp_path, "sh", "-c", '"$@"; exec sleep 1000', "sh", *RESTLESS_APP) as one:
        assert one.get("/up").status == 200
        assert one.get("/die").status == 502
        assert one.get("/up").status == 502
        assert one.process is not None
        assert one.process.poll() is None


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_an_app_may_listen_on_the_other_localhost(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("found")
    serve = f'exec {sys.executable} -m http.server --bind ::1 "$PORT"'
    with wrapped(tmp_path, "sh", "-c", serve) as one:
        assert one.get("/here").text == "found"
        assert one.get("/here").text == "found"


# --- limits ---


def test_bodies_above_the_limit_are_413(tmp_path: Path) -> None:
    """Case 32."""
    with wrapped(tmp_path, env={"MAX_REQUEST_BODY": "10"}) as one:
        assert one.post("/upload", b"x" * 5).json["length"] == 5
        assert one.post("/upload", b"x" * 10).status == 200
        assert one.post("/upload", b"x" * 20).status == 413
        chunked = b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert visits.ask(one, chunked + b"5\r\nxxxxx\r\n0\r\n\r\n").status == 200
        assert visits.ask(one, chunked + b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n").status == 413


def test_by_default_there_is_no_limit(one: Wrapped) -> None:
    """Case 32."""
    assert one.post("/upload", b"x" * 30_000_000).json["length"] == 30_000_000


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    env = {"HTTP_IDLE_TIMEOUT": "300ms", "HTTP_READ_TIMEOUT": "300ms", "HTTP_WRITE_TIMEOUT": "300ms"}
    with wrapped(tmp_path_factory.mktemp("hasty"), env=env) as running:
        yield running


def test_an_upload_that_stalls_is_408_and_an_idle_connection_is_closed(hasty: Wrapped) -> None:
    """Case 47."""
    with Line(hasty) as stalled, Line(hasty) as slow, Line(hasty) as idle:
        assert idle.get("/up").status == 200
        stalled.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nxx")
        slow.send(b"GET /up HTTP/1.1\r\nHo")
        assert stalled.reply().status == 408
        assert slow.reply().status == 408
        assert idle.ended()


def test_a_stream_that_goes_on_is_never_cut(hasty: Wrapped) -> None:
    """A difference from thruster that is meant: there it ends with HTTP_WRITE_TIMEOUT."""
    answer = hasty.get("/sse?n=6&pause=0.2")  # longer than any of its limits
    assert answer.text.count("data: ") == 6


def test_a_websocket_outlives_every_limit_of_time(hasty: Wrapped) -> None:
    """Case 33."""
    with upgraded(hasty) as line:
        time.sleep(1.0)  # noqa: TID251 - its silence is what is tested
        line.send(b"still there")
        assert line.take(11) == b"still there"


def test_nought_is_no_limit(tmp_path: Path) -> None:
    """Case 47."""
    with wrapped(tmp_path, env={"HTTP_IDLE_TIMEOUT": "0", "HTTP_READ_TIMEOUT": "0"}) as one, Line(one) as line:
        assert line.get("/up").status == 200
        line.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nxx")
        time.sleep(1.5)  # noqa: TID251 - longer than the sweep for limits
        assert line.send(b"yy").reply().json["length"] == 4


def test_the_case_of_an_upgrade_does_not_matter(one: Wrapped) -> None:
    """A difference from thruster that is meant: there it is 502."""
    with upgraded(one, "WebSocket") as line:
        assert line.send(b"hello").take(5) == b"hello"
