"""Long uploads of known length, which pass from the client's socket to the app's inside the kernel."""

import hashlib
import os
import select
import socket
from collections.abc import Iterator

import pytest

from whole.daemon import Daemon, config
from whole.visits import Line, request, serving

TOP = "limits: {body_timeout: 700ms}"
USERS = "users: {ann: , late: {response_timeout: 500ms}}"
BODY = os.urandom(1_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("uploads"), config(users=USERS, top=TOP)) as one:
        assert one.get("/ann/up").status == one.get("/late/up").status == 200
        yield one


def begun(target: str, *lines: str, length: int = len(BODY)) -> bytes:
    return request(target, f"Content-Length: {length}", *lines, method="POST")


def test_it_arrives_whole_and_what_was_sent_behind_it_is_the_next_request(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send((begun("/ann/echo") + BODY) * 2 + request("/ann/up"))
        for _ in range(2):
            reply = line.reply()
            assert (reply.json["length"], reply.json["sha256"]) == (len(BODY), DIGEST)
        assert line.reply().body == b"up"
        assert line.send(begun("/ann/echo", "Expect: 100-continue")).reply().status == 100
        assert line.send(BODY).reply().json["sha256"] == DIGEST


def test_an_app_which_is_slower_than_the_client_may_take_its_time(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(begun("/ann/upload?rate=12000000", length=16 << 20) + bytes(16 << 20))
        assert line.reply().json["length"] == 16 << 20


def test_a_client_that_stops_sending_is_408(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.send(begun("/ann/echo") + BODY[:400_000]).reply()
        assert (reply.status, reply.one("Connection")) == (408, "close")


def test_a_client_that_leaves_is_gone(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.send(begun("/ann/upload", "X-Request-Id: left", "Expect: 100-continue")).reply().status == 100
        line.send(BODY[:400_000])
    reported = daemon.until_reported("request", request_id="left")
    assert (reported["status"], reported["reason"]) == (499, "the client left")


def test_an_app_may_answer_before_all_has_come(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.send(begun("/ann/continue?early=417", length=100 << 20) + BODY).reply()
        assert (reply.status, reply.one("Connection")) == (417, "close")


def test_an_app_which_takes_nothing_any_more_has_its_time_to_answer(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(begun("/late/slow?s=20", length=1 << 30))
        while select.select([], [line.socket], [], 0.2)[1]:
            line.socket.send(bytes(1 << 20), socket.MSG_DONTWAIT)
        assert line.reply().status == 504


def test_an_app_which_dies_amid_it_is_502(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.send(begun("/ann/die", length=100 << 20) + BODY).reply()
        assert reply.status == 502
