"""Many clients that do not finish their requests, or do not read, cannot use up the memory."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from whole.daemon import Daemon, eventually
from whole.visits import Line, get, parrot, request, serving

WARNING = "clients hold too much memory"


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("buffers"), parrot(top="limits: {buffers: 2MB}")) as one:
        assert get(one, "/ann/seen").status == 200
        yield one


def ended(line: Line) -> bool:
    """Return whether the daemon has closed it."""
    line.socket.setblocking(False)
    try:
        return not line.socket.recv(1 << 16)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        line.socket.setblocking(True)


def test_heads_that_do_not_end_are_refused_but_not_the_small_ones(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        small = stack.enter_context(Line(daemon)).send(b"GET /ann/seen HTTP/1.1\r\nHost: x\r\n")
        lines = [stack.enter_context(Line(daemon)) for _ in range(100)]
        for line in lines:
            line.send(b"GET /ann/seen HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 60_000)
        assert lines[0].reply().status == 503
        assert lines[0].ended()
        warned = daemon.until_reported(WARNING, level="warning")
        assert warned["msg"].endswith("connections were closed (limits.buffers)")
        assert get(daemon, "/ann/seen").status == 200
        assert small.send(b"\r\n").reply().status == 200
        assert lines[-1].send(b"\r\n\r\n").reply().status == 200
    refused = [one for one in daemon.reported("refused") if one["status"] == 503]
    assert 65 <= len(refused) < 100
    assert refused[0]["reason"] == "too many requests are unfinished"


def test_what_is_sent_ahead_of_a_response_counts(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(daemon)) for _ in range(60)]
        for line in lines:
            line.send(request("/ann/hold") + b"x" * 60_000)
        eventually(lambda: sum(map(ended, lines)) > 20, what="the end of those that hold most")
        assert not all(map(ended, lines))
    assert get(daemon, "/ann/seen").status == 200


def test_responses_that_clients_do_not_read_count(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(daemon)) for _ in range(50)]
        for line in lines:
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.send(request("/ann/write?mb=30"))
        daemon.until_reported(WARNING, 20, level="warning")
        assert get(daemon, "/ann/seen").status == 200
    eventually(lambda: len([one for one in daemon.reported("request") if one["path"] == "/ann/write"]) == 50)
