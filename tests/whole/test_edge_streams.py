"""Streams: long bodies in bounded memory, and events as they happen."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import SLOWNESS, Daemon, restless
from whole.visits import Line, parrot, request, serving

MOST = 80 << 20
USERS = f"users: {{ann: null, eve: {{command: {restless()}}}}}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("streams"), parrot(users=USERS)) as one:
        yield one


def memory(daemon: Daemon, what: str = "VmRSS") -> int:
    """Octets; VmHWM is the most that it ever was."""
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(what))) << 10


def test_a_gigabyte_through_a_slow_reader_stays_small(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/pour?mb=1024"))
        line.until(b"\r\n\r\n")
        taken, paused = 0, time.monotonic() + 1
        while time.monotonic() < paused:  # slowly for a second, while the app pushes
            taken += len(line.take(1 << 16))
            threading.Event().wait(0.02)
        assert memory(daemon) < MOST
        while taken < 1 << 30 and (data := line.take(min(1 << 20, (1 << 30) - taken))):
            taken += len(data)
        assert taken == 1 << 30
        assert memory(daemon, "VmHWM") < MOST
        assert line.get("/ann/seen").status == 200


def test_a_large_upload_to_a_slow_app_stays_small(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/drink?rate=60000000", f"Content-Length: {120 << 20}", method="POST"))
        for _ in range(120):
            line.send(bytes(1 << 20))
            assert memory(daemon) < MOST
        assert line.reply().json == {"length": 120 << 20}


def test_a_large_chunked_upload_to_a_slow_app_stays_small(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/eve/upload?rate=60000000", "Transfer-Encoding: chunked", method="POST"))
        for _ in range(60):
            line.send(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        assert memory(daemon) < MOST
        assert line.send(b"0\r\n\r\n").reply().json["length"] == 60 << 20


def test_requests_sent_ahead_by_a_client_that_reads_nothing_fill_no_memory(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/pour?mb=1") * 500)
        threading.Event().wait(1.5)  # half a gigabyte of answers, if it were careless
        assert memory(daemon, "VmHWM") < MOST
        for _ in range(500):
            assert len(line.reply().body) == 1 << 20


def test_each_event_arrives_when_it_happens(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/ann/clock?n=5&pause=0.3"))
        delays = []
        for _ in range(5):
            line.until(b"data: ")
            sent = float(line.until(b"\n\n"))
            delays.append(time.time() - sent)
        assert max(delays) < 0.3 * SLOWNESS  # before the next has happened
        assert sorted(delays)[2] < 0.1


def test_a_body_without_length_comes_as_it_is_sent(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/eve/chunked?n=3&size=4&pause=0.2&trailers=1"))
        line.until(b"\r\n\r\n")
        began = time.monotonic()
        assert line.until(b"xxxx") == b"4\r\n"
        assert time.monotonic() - began < 0.4 * SLOWNESS
        assert line.until(b"0\r\nX-Trailer: last\r\n\r\n").count(b"x") == 8


def test_an_upload_reaches_the_app_while_it_is_sent(daemon: Daemon) -> None:
    """The app answers in the midst of it: full duplex."""
    with Line(daemon) as line:
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".hex()
        line.send(request(f"/ann/say?hex={answer}&deaf=1", "Content-Length: 100", method="POST") + b"x" * 50)
        assert line.reply().body == b"ok"
