"""Requests and responses that are meant to do harm: to memory, to the log, to an app."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import Daemon, eventually
from whole.visits import Line, ask, get, parrot, request, say, seen, serving

CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("hostile"), parrot(users="users: {ann: null, bob: null}")) as one:
        assert get(one, "/ann/seen").status == get(one, "/bob/seen").status == 200
        yield one


@pytest.fixture(scope="module")
def on_fly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("fly"), parrot(), {"FLY_APP_NAME": "shows"}) as one:
        yield one


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Origin"])
def test_a_header_of_one_value_that_comes_with_two_is_refused(name: str, daemon: Daemon) -> None:
    reply = ask(daemon, request("/ann/seen", f"{name}: Basic YQ==", "Cookie: a=1", f"{name.upper()}: Basic Yg=="))
    assert reply.status == 400
    identity = reply.one("X-Request-Id")
    assert daemon.until_reported("refused", request_id=identity)["reason"] == f"several {name} headers that differ"


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Origin"])
def test_the_same_value_twice_reaches_the_app_once(name: str, daemon: Daemon) -> None:
    app_saw = seen(get(daemon, "/ann/seen", f"{name}: Basic YQ==", "X-A: 1", f"{name.lower()}:  Basic YQ== "))
    assert app_saw.all(name) == ["Basic YQ=="]
    assert app_saw.all("X-A") == ["1"]


def test_headers_that_may_come_several_times_do(daemon: Daemon) -> None:
    app_saw = seen(get(daemon, "/ann/seen", "Cookie: a=1", "Cookie: b=2", "Accept: text/html", "Accept: */*"))
    assert (app_saw.all("Cookie"), app_saw.all("Accept")) == (["a=1", "b=2"], ["text/html", "*/*"])


@pytest.mark.parametrize("named", ["fly-client-ip", "close, Fly-Client-IP", "x-a,FLY-CLIENT-IP"])
def test_a_client_cannot_remove_what_the_proxy_in_front_has_set(named: str, on_fly: Daemon) -> None:
    reply = get(on_fly, "/ann/seen", f"Connection: {named}", "Fly-Client-IP: 2001:db8::7", "X-A: 1", "Fly-Region: sjc")
    app_saw = seen(reply)
    assert app_saw.one("Fly-Client-IP") == "2001:db8::7"
    assert app_saw.one("Fly-Region") == "sjc"
    assert app_saw.one("X-A") == (None if "x-a" in named else "1")
    reported = on_fly.until_reported("request", request_id=app_saw.one("X-Request-Id"))
    assert reported["remote"] == "2001:db8::7"


def test_another_spelling_of_the_clients_address_does_not_reach_the_app(on_fly: Daemon) -> None:
    """WSGI and Rack take "_" for "-"."""
    app_saw = seen(get(on_fly, "/ann/seen", "Fly_Client_IP: 6.6.6.6", "Fly-Client-IP: 2001:db8::7"))
    assert [value for name, value in app_saw.headers if name.lower().replace("_", "-") == "fly-client-ip"] == [
        "2001:db8::7"
    ]


TRUSTED = (
    b"Fly-Client-IP", b"fly_client_ip", b"Fly-Replay-Src", b"Fly-Replay-State", b"Fly-Replay", b"Fly-Region",
    b"Flyatc-Seal", b"Flyatc-Owner", b"X-Forwarded-For", b"X-Request-Id", b"X-Cache", b"Cache-Status", b"Authorization",
    b"Set-Cookie", b"X-Accel-Redirect",
)  # fmt: skip


def test_no_trailer_says_what_only_a_trusted_proxy_may_say(daemon: Daemon) -> None:
    trailers = b"".join(name + b": 6.6.6.6\r\n" for name in TRUSTED) + b"X-Sum: 1\r\n"
    app_saw = seen(ask(daemon, request("/ann/seen", CHUNKED, method="POST") + b"2\r\nhi\r\n0\r\n" + trailers + b"\r\n"))
    assert app_saw.body == b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n" + trailers + b"\r\n"
    assert get(daemon, say(answer)).trailers == [("X-Sum", "1")]


def test_a_client_that_closes_its_side_after_the_request_has_left(daemon: Daemon) -> None:
    """A closed browser tab looks the same, and must not keep an app busy or awake. docs/http.md says so."""
    before = get(daemon, "/bob/tally").json.get("left", 0)
    with Line(daemon) as line:
        line.send(request("/bob/hold", "X-Request-Id: half-closed"))
        eventually(lambda: get(daemon, "/bob/tally").json.get("hold"), what="the request at the app")
        line.socket.shutdown(socket.SHUT_WR)
        assert line.rest() == b""
    reported = daemon.until_reported("request", request_id="half-closed")
    assert (reported["status"], reported["reason"]) == (499, "the client left")
    eventually(lambda: get(daemon, "/bob/tally").json.get("left", 0) > before, what="the app seeing the end")


def test_an_app_that_never_ends_its_interim_responses_is_502(daemon: Daemon) -> None:
    few = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 64
    with Line(daemon) as line:
        line.send(request(say(few + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
        statuses = [line.reply().status for _ in range(65)]
    assert statuses == [103] * 64 + [200]
    many = b"HTTP/1.1 103 X\r\n\r\n" * 10
    target = "/bob/say?" + "&".join([f"hex={many.hex()}"] * 20)
    with Line(daemon) as line:
        line.send(request(target, "X-Request-Id: interim"))
        while (reply := line.reply()).status == 103:
            pass
    assert reply.status == 502
    reported = daemon.until_reported("request", request_id="interim")
    assert reported["reason"] == "the app sent more than 64 interim responses (1xx)"


def test_long_paths_that_all_differ_leave_nothing_in_memory(daemon: Daemon) -> None:
    tail = "x" * 63_000
    with Line(daemon, timeout=60) as line:
        for number in range(100):  # what is bounded is full
            assert line.get(f"/ann/tally/{number}{tail}", "Accept: text/html").status == 200
        before = resident(daemon.pid)  # 72 MB follow
        for number in range(100, 1300):
            line.get(f"/ann/tally/{number}{tail}", f"User-Agent: {number}")
    assert resident(daemon.pid) - before < 16 << 20
    reported = [one for one in daemon.reported("request") if len(one["path"]) > 8000][-1]
    assert reported["path"].endswith("... (cut: 63015 bytes in all)")
    assert len(reported["path"]) < 8300
