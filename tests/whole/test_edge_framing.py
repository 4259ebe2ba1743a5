"""Where one message ends and the next begins, on the client's side."""

import hashlib
from collections.abc import Iterator

import pytest

from whole.daemon import Daemon, eventually
from whole.visits import Line, ask, get, parrot, request, say, seen, serving

CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("framing"), parrot(users="users: {ann: null, bob: null}")) as one:
        yield one


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", method: str = "POST", target: str = "/ann/seen") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request(target, CHUNKED, method=method) + body + end


def test_one_connection_to_the_app_serves_many_requests_of_many_clients(daemon: Daemon) -> None:
    numbers = set()
    for _ in range(3):
        with Line(daemon) as line:
            for _ in range(3):
                numbers.add(line.get("/bob/seen").json["connection"])
    assert len(numbers) == 1
    assert get(daemon, "/bob/seen").json["request"] == 10


def test_requests_sent_ahead_are_answered_in_their_order(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(
            request("/ann/seen?1")
            + request("/ann/seen?2", method="POST", body=b"GET /ann/seen?no HTTP/1.1\r\n\r\n")
            + request("/nonesuch?3")
            + chunked(b"hello", target="/ann/seen?4")
            + request("/ann?5")
            + request("/ann/seen?6", "Connection: close")
            + request("/ann/seen?7")
        )
        assert seen(line.reply()).line == "GET /ann/seen?1 HTTP/1.1"
        assert seen(line.reply()).body == b"GET /ann/seen?no HTTP/1.1\r\n\r\n"
        assert line.reply().status == 404
        assert seen(line.reply()).line == "POST /ann/seen?4 HTTP/1.1"
        assert line.reply().status == 308
        last = line.reply()
        assert seen(last).line == "GET /ann/seen?6 HTTP/1.1"
        assert last.one("Connection") == "close"
        assert line.ended()


def test_a_thousand_requests_in_one_packet_are_a_thousand_responses(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann") * 1000)
        assert {line.reply().status for _ in range(1000)} == {308}


def test_a_request_that_comes_byte_by_byte_is_one_request(daemon: Daemon) -> None:
    with Line(daemon) as line:
        for byte in b"\r\n" + chunked(b"hel", b"lo", end=b"0\r\nX-T: 1\r\n\r\n"):
            line.send(bytes([byte]))
        assert seen(line.reply()).body.endswith(b"0\r\nX-T: 1\r\n\r\n")


def test_a_chunked_upload_is_framed_anew_and_keeps_its_trailers(daemon: Daemon) -> None:
    data = request("/ann/seen", CHUNKED, "Trailer: X-Sum", method="PUT")
    data += b'005;ext=1;q="x"\r\nhello\r\nA \r\n, dear all!\r\n000\r\nX-Sum:  9 \r\nContent-Length: 99\r\n'
    data += b"X_Forwarded_For: 6.6.6.6\r\nHost: evil\r\nX-More: \xe9\r\n\r\n"
    app_saw = seen(ask(daemon, data.replace(b"A \r\n, dear all!", b"A \r\n, dear all")))
    assert app_saw.one("Transfer-Encoding") == "chunked"
    assert app_saw.one("Trailer") == "X-Sum"
    assert b"ext" not in app_saw.body
    assert app_saw.body.endswith(b"\r\n0\r\nX-Sum: 9\r\nX-More: \xe9\r\n\r\n")


def test_a_responses_chunks_and_trailers_pass(daemon: Daemon) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n"
    parts = (head + b"5;x=y\r\nhe", b"llo\r", b"\n1\r\n!\r\n0\r\nX-T: last\r\nSet-Cookie: no=1\r\n", b"\r\n")
    with Line(daemon) as line:
        reply = line.get(say(*parts, more="&pause=0.02"))
        assert (reply.body, reply.trailers, reply.one("Trailer")) == (b"hello!", [("X-T", "last")], "X-T")
        assert line.get(say(head + b"0\r\n\r\n")).body == b""  # and the connection goes on


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    ],
)
def test_an_old_client_gets_neither_chunks_nor_keep_alive(daemon: Daemon, answer: bytes) -> None:
    with Line(daemon) as line:
        target = say(answer, more="&close=1")
        reply = line.send(request(target, "Connection: keep-alive", version="1.0")).reply()
        assert reply.body == b"hello"
        assert reply.one("Connection") == "close"
        assert not reply.all("Transfer-Encoding")
        assert line.ended()


def test_a_body_that_ends_with_the_apps_connection_is_chunked_for_current_clients(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.get(say(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", more="&close=1&pause=0.02"))
        assert (reply.body, reply.one("Transfer-Encoding"), reply.one("Connection")) == (b"hello", "chunked", None)
        assert line.get("/ann/seen").status == 200


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n"),
        ("POST", b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_responses_without_a_body_leave_the_connection_in_step(daemon: Daemon, method: str, answer: bytes) -> None:
    with Line(daemon) as line:
        reply = line.get(say(answer), method=method)
        assert reply.body == b""
        lengths = [value.decode() for value in answer.split(b"Content-Length: ")[1:]]
        if reply.status == 204:
            assert not reply.all("Content-Length")
        else:
            assert reply.all("Content-Length") == [length.split("\r")[0] for length in lengths]
        assert line.get("/ann/seen").status == 200


def test_early_hints_reach_current_clients_only(daemon: Daemon) -> None:
    hints = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Length: 3\r\nConnection: x\r\n"
        b"Set-Cookie: for=all; Path=/\r\n\r\n"
    )
    parts = (hints, hints + b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with Line(daemon) as line:
        first = line.get(say(*parts, more="&pause=0.05"))
        assert (first.status, first.headers) == (103, [("Link", "</a.css>; rel=preload")])
        assert [line.reply().status, line.reply().status, line.reply().body] == [103, 102, b"ok"]
    with Line(daemon) as line:
        old = line.send(request(say(*parts), version="1.0")).rest()
        assert old.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "given",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"Content-Length: 5, 5\r\n\r\nhello",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Content-Length: -1\r\n\r\nhello",
        b"Content-Length:\r\n\r\nhello",
        b"Content-Length: 5 5\r\n\r\nhello",
        b"Content-Length: 99999999999999999999\r\n\r\nhello",
        b"Content-Length : 5\r\n\r\nhello",
        b"Transfer-Encoding: gzip\r\n\r\nhello",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding\r\n : chunked\r\n\r\n0\r\n\r\n",
        b"X-Folded: one\r\n two\r\n\r\n",
        b"X-Bare: one\nX-Two: two\r\n\r\n",
        b"X-Bare: one\n\nGET /ann/seen HTTP/1.1\r\nHost: x\r\n\r\n",
        b"X-Return: a\rb\r\n\r\n",
        b"X-Nul: a\x00b\r\n\r\n",
        b"X(Name: a\r\n\r\n",
        b": a\r\n\r\n",
        b"no colon\r\n\r\n",
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused(daemon: Daemon, given: bytes) -> None:
    with Line(daemon) as line:
        reply = line.send(b"POST /ann/seen HTTP/1.1\r\nHost: x\r\n" + given).reply()
        assert reply.status in (400, 501)
        assert reply.one("Connection") == "close"
        assert line.ended()


def test_an_old_client_cannot_send_chunks(daemon: Daemon) -> None:
    assert ask(daemon, request("/ann/seen", CHUNKED, method="POST", version="1.0") + b"0\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhelloXX\r\n", b"5\nhello\n0\n\n", b"g\r\n", b"-1\r\n", b"0x5\r\nhello\r\n", b"\r\n", b" 5\r\nhello\r\n",
        b"5\r\nhello\n\r\n", b"fffffffffffffffff\r\n", b"5;a=\x00\r\nhello\r\n", b"0\r\nno field\r\n\r\n",
        b"0\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n folded\r\n\r\n", b"0\r\nX : a\r\n\r\n",
        b"5;" + b"x" * 2000,
    ],
)  # fmt: skip
def test_a_broken_chunk_is_refused_and_the_app_sees_no_end(daemon: Daemon, body: bytes) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/seen", CHUNKED, method="POST") + b"3\r\nabc\r\n" + body)
        assert line.reply().status == 400
        assert line.ended()


def test_expect_is_for_the_app_to_answer(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request(say(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        more="&deaf=1"),
                          "Expect: 100-continue", "Content-Length: 5", method="POST"))  # fmt: skip
        assert line.reply().status == 100
        assert line.reply().body == b"ok"


def test_an_app_that_refuses_early_saves_the_client_the_body(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request(say(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno", more="&deaf=1&close=1"),
                          "Expect: 100-continue", "Content-Length: 5000000", method="POST"))  # fmt: skip
        reply = line.reply()
        assert (reply.status, reply.body, reply.one("Connection")) == (417, b"no", "close")
        assert line.ended()


def test_an_app_that_knows_nothing_of_expect_gets_the_body_all_the_same(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/seen", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        assert line.reply().status == 100  # by the daemon, after a second
        app_saw = seen(line.send(b"hello").reply())
        assert (app_saw.one("Expect"), app_saw.body) == ("100-continue", b"hello")


def test_a_body_of_every_byte_arrives_whole(daemon: Daemon) -> None:
    body = bytes(range(256)) * 4000
    digest = hashlib.sha256(body).hexdigest()
    app_saw = seen(get(daemon, "/ann/seen", method="POST", body=body))
    assert hashlib.sha256(app_saw.body).hexdigest() == digest


def test_a_response_before_the_body_has_come_ends_the_connection(daemon: Daemon) -> None:
    early = say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", more="&deaf=1")
    with Line(daemon) as line:
        line.send(request(early, "Content-Length: 1000", method="POST") + b"x" * 10)
        reply = line.reply()
        assert (reply.body, reply.one("Connection")) == (b"ok", "close")
        line.send(b"x" * 990)
        assert line.ended()


def test_a_client_that_leaves_is_noticed_by_the_app_and_logged(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/bob/hold", "X-Request-Id: left-early"))
        eventually(lambda: get(daemon, "/bob/tally").json.get("hold"), what="the request at the app")
    reported = daemon.until_reported("request", request_id="left-early")
    assert (reported["status"], reported["reason"]) == (499, "the client left")
    eventually(lambda: get(daemon, "/bob/tally").json.get("left"), what="the app seeing the end")
