"""Apps that respond badly, late, not at all, or die: what clients get, and what is logged."""

import re
import select
from collections.abc import Iterator
from typing import Any

import pytest

from slowness import SLOWNESS
from whole.daemon import Daemon, eventually, restless
from whole.visits import Line, get, parrot, request, say, seen, serving

USERS = f"""
users:
  ann: null
  bob: null
  eve: {{command: {restless()}}}
  gus: {{command: {restless("--garbage")}}}
  late: {{response_timeout: 1s}}
"""
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("answers"), parrot(users=USERS)) as one:
        yield one


def reported(daemon: Daemon, marker: str) -> dict[str, Any]:
    return daemon.until_reported("request", request_id=marker)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-Bare: one\nX: y\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 O\x1b[2JK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 2x0 Fine\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 099 Low\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00" * 40,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_a_response_that_is_no_http_is_502(daemon: Daemon, answer: bytes) -> None:
    target = say(answer) if len(answer) < 1000 else "/ann/say?" + "&".join(["hex=" + (b"x" * 20000).hex()])
    with Line(daemon) as line:
        reply = line.get(target)
        assert reply.status == 502
        assert b"hello" not in reply.body
        assert line.get("/ann/seen").status == 200  # the visitor's connection is as good as before
    assert reported(daemon, str(reply.one("X-Request-Id")))["reason"].startswith("the app")


def test_garbage_is_502(daemon: Daemon) -> None:
    assert get(daemon, "/gus/").status == 502


@pytest.mark.parametrize(
    ("rest", "whole"),
    [
        (b"Content-Length: 100\r\n\r\nhello", False),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", False),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXYZ\r\n", False),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n", False),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n", False),
    ],
)
def test_a_response_that_breaks_off_is_cut_and_never_ended_cleanly(daemon: Daemon, rest: bytes, whole: bool) -> None:
    with Line(daemon) as line:
        head, _, body = rest.partition(b"\r\n\r\n")
        reply = line.get(say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", body, more="&close=1&pause=0.05"))
        assert reply.status == 200
        assert reply.complete is whole
        assert line.ended()
    reason = reported(daemon, str(reply.one("X-Request-Id")))["reason"]
    assert re.search("in the middle of its response|chunk|trailer", reason)


def test_an_old_client_sees_a_cut_as_an_error_not_as_an_end(daemon: Daemon) -> None:
    broken = say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", more="&close=1&pause=0.1")
    with Line(daemon) as line:
        line.send(request(broken, version="1.0"))
        line.until(b"\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: line.socket.recv(1000), b""))


def test_an_app_that_dies_before_its_first_byte_is_502_and_one_that_dies_amid_its_response_is_cut(
    daemon: Daemon,
) -> None:
    with Line(daemon) as line:
        reply = line.get("/eve/die", "X-Request-Id: died-first")
        assert reply.status == 502
        assert "without a response" in reported(daemon, "died-first")["reason"]
        eventually(lambda: line.get("/eve/up").status == 200, 20, "the next life")
        reply = line.get("/eve/die-mid-answer", "X-Request-Id: died-amid")
        assert not reply.complete
        assert line.ended()
    line_reported = reported(daemon, "died-amid")
    assert line_reported["status"] == 200
    assert line_reported["reason"] == "the app closed the connection in the middle of its response"


def test_octets_beyond_the_content_length_belong_to_no_response(daemon: Daemon) -> None:
    more = FINE + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    for target in (say(more), say(FINE, FINE), say(FINE + b"x")):
        with Line(daemon) as line:
            assert line.get(target).body == b"ok"
            line.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                line.socket.recv(1)
            line.socket.settimeout(10 * SLOWNESS)
            assert seen(line.get("/ann/seen?mine")).line == "GET /ann/seen?mine HTTP/1.1"


def test_an_idle_connection_that_died_is_tried_once_more_where_nothing_can_happen_twice(daemon: Daemon) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert get(daemon, "/bob/mortal").status == 200
        assert get(daemon, "/bob/seen", method=method).status == 200


@pytest.mark.parametrize(
    ("method", "body"), [("POST", b""), ("POST", b"x"), ("GET", b"x"), ("DELETE", b""), ("PATCH", b"x")]
)
def test_what_could_happen_twice_is_sent_once(daemon: Daemon, method: str, body: bytes) -> None:
    with Line(daemon) as line:
        line.get("/bob/mortal")  # the fresh connection which the next request takes
        name = f"once-{method}-{len(body)}"
        assert line.get(f"/bob/{name}", method=method, body=body).status == 502
        assert line.get("/bob/tally").json[name] == 1


def test_an_app_that_always_hangs_up_is_asked_twice_at_most(daemon: Daemon) -> None:
    get(daemon, "/ann/seen")  # an idle connection
    before = get(daemon, "/ann/tally").json.get("say", 0)
    assert get(daemon, "/ann/say?close=1").status == 502
    assert get(daemon, "/ann/tally").json["say"] - before == 2


def test_an_app_that_thinks_too_long_is_504_and_is_let_go(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.get("/late/hold", "X-Request-Id: too-late").status == 504
        assert line.get("/late/seen").status == 200
        assert reported(daemon, "too-late")["reason"] == "no response within 1 s"
        eventually(lambda: line.get("/late/tally").json.get("left") == 1, what="the app seeing the end")


def test_the_time_to_answer_begins_when_the_request_has_come(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/late/seen", "Content-Length: 14", method="POST"))
        line.socket.settimeout(0.1)
        for _ in range(14):
            with pytest.raises(TimeoutError):
                line.socket.recv(1)  # a tenth of a second, in which no 504 comes
            line.send(b"x")
        line.socket.settimeout(10 * SLOWNESS)
        assert seen(line.reply()).body == b"x" * 14


def test_an_app_that_takes_nothing_of_the_body_is_504(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/late/drink?rate=0", "Content-Length: 100000000", method="POST"))
        line.socket.setblocking(False)
        while not select.select([line.socket], [], [], 0)[0]:  # until there is an answer
            if select.select([], [line.socket], [], 0.05)[1]:
                line.socket.send(bytes(1 << 16))
        line.socket.settimeout(10 * SLOWNESS)
        assert line.reply().status == 504
