"""How a wrapped app ends, as its clients see it."""

import os
import signal
import socket
from pathlib import Path

import pytest

from whole import visits
from whole.visits import Line
from whole.wrapped import RESTLESS_APP, Wrapped, ending, upgraded, waits, wrapped


def test_while_the_app_takes_its_time_to_end_it_is_served(tmp_path: Path) -> None:
    with wrapped(tmp_path, *RESTLESS_APP, "--ignore-term") as one:
        assert one.get("/up").status == 200
        one.signal(signal.SIGTERM)
        one.until_reported("relaying SIGTERM")
        assert one.get("/up").status == 200
        os.kill(one.app, signal.SIGKILL)
        assert one.wait() == 137


def test_a_websocket_ends_with_the_app(tmp_path: Path) -> None:
    with wrapped(tmp_path) as one, upgraded(one) as line:
        assert one.stop(within=4) == 0
        assert line.ended()


# A child that ends before its app does: a shell which leaves the server running.
LEAVES_THE_APP = ("sh", "-c", '"$@" & read line; exit 3', "sh", *RESTLESS_APP)


def test_when_the_child_has_ended_responses_in_progress_are_finished_and_no_request_comes_in(tmp_path: Path) -> None:
    with wrapped(tmp_path, *LEAVES_THE_APP) as one, ending(app_of(one)), Line(one) as line, upgraded(one) as websocket:
        begin(line, "/chunked?n=8&size=10&pause=0.1")
        one.end_input()
        one.until_reported("app ended")
        assert websocket.ended()
        with pytest.raises(ConnectionRefusedError):
            one.get("/up")
        assert one.process is not None
        assert one.process.poll() is None
        reply = line.reply()
        assert (reply.body, reply.complete) == (b"x" * 80, True)
        assert line.ended()
        assert one.wait() == 3


def test_a_second_signal_after_the_childs_end_does_not_wait_for_the_last_responses(tmp_path: Path) -> None:
    with wrapped(tmp_path, *LEAVES_THE_APP) as one, ending(app_of(one)), Line(one) as line:
        begin(line, "/chunked?n=1000&pause=0.1")
        one.end_input()
        one.until_reported("app ended")
        one.signal(signal.SIGTERM)
        assert one.wait(within=3) == 3
        assert not line.reply().complete


def test_a_client_still_waiting_for_an_app_that_ended_gets_502(tmp_path: Path) -> None:
    with wrapped(tmp_path, "sh", "-c", "read line; exit 4") as one, Line(one) as line:
        waits(line, visits.request("/up"))
        one.end_input()
        assert line.reply().status == 502
        assert one.wait() == 4


def app_of(one: Wrapped) -> int:
    return int(one.get("/echo").json["pid"])


def begin(line: Line, target: str) -> None:
    """Returns with the first byte of the answer."""
    line.send(visits.request(target)).socket.recv(1, socket.MSG_PEEK)
