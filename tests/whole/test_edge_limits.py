"""Limits: of sizes and of times, and what 0 means."""

import time
from collections.abc import Iterator

import pytest

from whole.daemon import SLOWNESS, Daemon, eventually
from whole.log_file import polling
from whole.visits import Line, get, parrot, request, seen, serving

CHUNKED = "Transfer-Encoding: chunked"
TIGHT = (
    "limits: {request_body: 10, request_header: 4KB, header_timeout: 700ms, body_timeout: 700ms, idle_timeout: 900ms}"
)
LOOSE = "limits: {request_body: 0, header_timeout: 0, body_timeout: 0, idle_timeout: 0, write_timeout: 0}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("limits"), parrot(top=TIGHT)) as one:
        assert get(one, "/ann/seen").status == 200
        yield one


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("loose"), parrot(top=LOOSE)) as one:
        assert get(one, "/ann/seen").status == 200
        yield one


def count(daemon: Daemon, name: str) -> int:
    return int(get(daemon, "/ann/tally").json.get(name, 0))


def test_a_body_of_just_the_limit_passes(daemon: Daemon) -> None:
    assert seen(get(daemon, "/ann/seen", method="POST", body=b"x" * 10)).body == b"x" * 10
    with Line(daemon) as line:
        line.send(request("/ann/seen", CHUNKED, method="POST") + b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n")
        assert line.reply().status == 200


def test_a_body_declared_too_large_is_413_before_the_app_sees_a_byte(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/declared", "Content-Length: 11", "X-Request-Id: declared", method="POST"))
        reply = line.reply()
        assert (reply.status, reply.one("Connection")) == (413, "close")
        assert line.ended()
    assert count(daemon, "declared") == 0
    reported = daemon.until_reported("request", request_id="declared")
    assert (reported["tenant"], reported["status"], reported["reason"]) == (
        "ann",
        413,
        "the body is larger than 10 bytes",
    )


def test_a_body_that_grows_too_large_is_413(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/grown", CHUNKED, method="POST") + b"5\r\nhello\r\n6\r\nhello!")
        assert line.reply().status == 413
        assert line.ended()


def test_a_large_refused_upload_reads_its_response_and_no_reset(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/seen", "Content-Length: 20000000", method="POST"))
        for _ in range(300):
            line.send(bytes(1 << 16))  # it sends all before it looks
        assert line.reply().status == 413


def test_a_head_too_large_is_431_in_one_piece_or_in_many(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.get("/ann/seen", "X: " + "x" * 4096).status == 431
        assert line.ended()
    with Line(daemon) as line:
        line.send(b"GET /ann/seen HTTP/1.1\r\nHost: x\r\n")
        for _ in range(5):
            line.send(b"X: " + b"x" * 1000 + b"\r\n")
        assert line.reply().status == 431
    assert get(daemon, "/ann/seen", "X: " + "x" * 3900).status == 200


def test_a_browser_gets_an_explanation_about_its_cookies(daemon: Daemon) -> None:
    reply = get(daemon, "/ann/seen", "Accept: text/html", "Cookie: " + "x" * 5000)
    assert (reply.status, reply.one("Content-Type")) == (431, "text/html; charset=utf-8")
    assert b"cookies" in reply.body
    assert get(daemon, "/ann/seen", "Cookie: " + "x" * 5000).one("Content-Type") == "application/json"


def test_a_head_that_does_not_end_is_408(daemon: Daemon) -> None:
    with Line(daemon) as line:
        began = time.monotonic()
        reply = line.send(b"GET /ann/seen HTTP/1.1\r\nHost: x\r\n").reply()
        assert reply.status == 408
        assert 0.7 <= time.monotonic() - began < 3 * SLOWNESS
        assert line.ended()


def test_a_head_that_comes_byte_by_byte_is_408_all_the_same(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.socket.settimeout(0.05)
        answer = b""
        for byte in request("/ann/seen", "X: " + "x" * 400):
            line.send(bytes([byte]))
            try:
                answer = line.socket.recv(1000)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_second_request_that_does_not_end_is_408_too(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/seen") + b"GET /ann/se")
        assert line.reply().status == 200
        assert line.reply().status == 408


def test_a_body_that_stops_coming_is_408_and_the_app_sees_its_end(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/stalled", "Content-Length: 10", method="POST") + b"hello")
        assert line.reply().status == 408
        assert line.ended()


def test_a_slow_body_that_keeps_coming_is_no_stalled_one(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/seen", "Content-Length: 10", method="POST"))
        line.socket.settimeout(0.1)
        for _ in range(10):
            with pytest.raises(TimeoutError):
                line.socket.recv(1)
            line.send(b"x")
        line.socket.settimeout(10 * SLOWNESS)
        assert line.reply().status == 200


def test_idle_connections_are_closed_new_and_used_ones(daemon: Daemon) -> None:
    with Line(daemon) as unused, Line(daemon) as used:
        began = time.monotonic()
        assert used.get("/ann/seen").status == 200
        assert unused.ended()
        assert used.ended()
        assert 0.9 <= time.monotonic() - began < 4 * SLOWNESS


def test_a_thinking_app_is_no_idle_connection(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/say?hex=&hex=&hex=&hex=485454502f312e3120323034204e6f0d0a0d0a&pause=0.45"))
        assert line.reply().status == 204


def test_nought_is_no_limit(loose: Daemon) -> None:
    with Line(loose) as fresh, Line(loose) as head, Line(loose) as body:
        head.send(b"GET /ann/seen HTTP/1.1\r\nHo")
        body.send(request("/ann/seen", "Content-Length: 3000000", method="POST"))
        fresh.socket.settimeout(2.0)
        with pytest.raises(TimeoutError):
            fresh.socket.recv(1)
        fresh.socket.settimeout(10 * SLOWNESS)
        assert fresh.get("/ann/seen").status == 200
        assert head.send(b"st: x\r\n\r\n").reply().status == 200
        assert len(seen(body.send(b"x" * 3_000_000).reply()).body) == 3_000_000


def test_a_client_that_takes_nothing_of_a_response_is_cut_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = parrot(top="limits: {write_timeout: 1s, idle_timeout: 300ms}")
    with serving(tmp_path_factory.mktemp("stuck"), config) as daemon, Line(daemon) as stuck, Line(daemon) as slow:
        stuck.send(request("/ann/pour?mb=30", "X-Request-Id: stuck"))
        slow.send(request("/ann/pour?mb=30", "X-Request-Id: slow"))
        taken = 0
        with polling():
            while not daemon.reported("request", request_id="stuck"):
                taken += len(slow.socket.recv(1 << 16))
        assert daemon.reported("request", request_id="stuck")[0]["reason"] == "the client took nothing for 1 s"
        while data := slow.socket.recv(1 << 20):  # it took some all the time: it gets all
            taken += len(data)
            if taken >= 30 << 20:
                break
        assert taken >= 30 << 20
        eventually(lambda: daemon.reported("request", request_id="slow"), what="the line of the slow one")
