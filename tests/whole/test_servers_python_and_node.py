"""Real servers behind the daemon: gunicorn's two kinds, uvicorn, Puma, Node."""

import hashlib
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from whole.daemon import SLOWNESS, Daemon, eventually
from whole.visits import Line, serving

APPS = Path(__file__).parent.parent / "apps"
SERVERS = [
    "sync",
    "threads",
    "uvicorn",
    pytest.param("puma", marks=pytest.mark.needs("puma")),
    pytest.param("node", marks=pytest.mark.needs("node")),
]


def module(*words: str) -> str:
    return json.dumps([sys.executable, "-m", *words])


GUNICORN = ("gunicorn", "wsgi_app:app", "--bind", "127.0.0.1:{port}")
UVICORN = ("uvicorn", "asgi_app:app", "--port", "{port}", "--log-level", "warning")
CONFIG = f"""
server: {{listen: 127.0.0.1:0}}
app:
  directory: {APPS}
  command: [python3]
  idle: 1h
  start_timeout: 60s
storage: {{mode: none}}
users:
  sync:
    command: {module(*GUNICORN, "--workers", "2")}
    env: {{SCRIPT_NAME: "{{prefix}}"}}
  threads:
    command: {module(*GUNICORN, "--threads", "8")}
    env: {{SCRIPT_NAME: "{{prefix}}"}}
  uvicorn:
    command: {module(*UVICORN)}
  puma:
    command: [puma, -C, rack/config/puma.rb, rack/config.ru]
    env: {{RAILS_RELATIVE_URL_ROOT: "{{prefix}}"}}
  node:
    command: [node, node_app.js]
  hasty:
    command: [node, node_app.js]
    env: {{KEEP_ALIVE_MS: "300"}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("servers"), CONFIG) as one:
        yield one


@pytest.mark.parametrize("server", SERVERS)
def test_many_requests_go_over_one_connection(daemon: Daemon, server: str) -> None:
    with Line(daemon, 30) as line:
        for n in range(20):
            got = line.get(f"/{server}/echo?n={n}")
            assert (got.status, got.json["method"], got.json["query"]) == (200, "GET", f"n={n}")
            assert got.json["path"].endswith("/echo")
            posted = line.get(f"/{server}/echo", method="POST", body=b"x" * n or b"y")
            assert (posted.status, posted.json["length"]) == (200, n or 1)
            head = line.get(f"/{server}/echo", method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert line.get(f"/{server}/missing").status == 404


@pytest.mark.parametrize("server", ["sync", "threads", pytest.param("puma", marks=pytest.mark.needs("puma"))])
def test_a_server_takes_the_prefix_from_its_environment(daemon: Daemon, server: str) -> None:
    with Line(daemon, 30) as line:
        reported = line.get(f"/{server}/deeper/echo").json
    assert (reported["script_name"], reported["path"]) == (f"/{server}", "/deeper/echo")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_arrive_whole(daemon: Daemon, server: str, chunked: bool) -> None:
    body = random.Random(7).randbytes(3_000_000)
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SLOWNESS)
    pieces = (body[i : i + 50_000] for i in range(0, len(body), 50_000))
    connection.request("PUT", f"/{server}/echo", pieces if chunked else body, encode_chunked=chunked,
                       headers={"Transfer-Encoding": "chunked"} if chunked else {})  # fmt: skip
    reported = json.loads(connection.getresponse().read())
    connection.close()
    assert (reported["length"], reported["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("server", SERVERS)
def test_responses_stream_as_they_are_made(daemon: Daemon, server: str) -> None:
    def gap() -> float:
        """Seconds between the first line and the last. A busy machine can only make it shorter than it was."""
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60 * SLOWNESS)
        connection.request("GET", f"/{server}/stream?n=3&pause=0.4")
        answer = connection.getresponse()
        assert answer.readline() == b"line 0\n"
        first = time.monotonic()
        assert answer.read() == b"line 1\nline 2\n"
        connection.close()
        return time.monotonic() - first

    assert any(gap() > 0.2 for _ in range(5))


@pytest.mark.parametrize("server", SERVERS)
def test_many_clients_at_once_are_all_served(daemon: Daemon, server: str) -> None:
    def visit(worker: int) -> list[int]:
        with Line(daemon, 60) as line:
            return [line.get(f"/{server}/echo?{worker}.{n}").status for n in range(10)]

    with ThreadPoolExecutor(16) as pool:
        statuses = [status for found in pool.map(visit, range(16)) for status in found]
    assert statuses == [200] * 160


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_of_a_server_is_left_when_it_was_stopped(daemon: Daemon, server: str) -> None:
    with Line(daemon, 30) as line:
        assert line.get(f"/{server}/echo").status == 200
    pid = daemon.status(server)["pid"]
    assert pid in group(pid)
    assert daemon.cli("stop", server).returncode == 0
    eventually(lambda: not group(pid), 10, "no process of it")
    reported = daemon.status(server)
    assert (reported["state"], reported["crashes"]) == ("stopped", 0)
    assert not daemon.reported("the app did not end by itself", tenant=server)


def test_events_come_one_by_one_from_uvicorn(daemon: Daemon) -> None:
    with Line(daemon, 30) as line:
        got = line.get("/uvicorn/sse?n=3&pause=0.05", "Accept: text/event-stream")
    assert got.one("content-type") == "text/event-stream"
    assert got.body == b"data: line 0\n\ndata: line 1\n\ndata: line 2\n\n"


def test_websockets_pass_through_uvicorn_and_keep_it_running(daemon: Daemon) -> None:
    with connect(f"ws://127.0.0.1:{daemon.port}/uvicorn/ws", open_timeout=30 * SLOWNESS, max_size=None) as socket:
        for message in ("hello", "€" * 1000, b"\x00\xff" * 500_000):
            socket.send(message)
            assert socket.recv(30 * SLOWNESS) == message
        assert socket.ping().wait(30 * SLOWNESS)
        assert daemon.status("uvicorn")["requests"] == 1
        socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(30 * SLOWNESS)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as you wish")
    eventually(lambda: daemon.status("uvicorn")["requests"] == 0, 10, "the visitor has left")


@pytest.mark.needs("node")
def test_no_request_fails_around_the_end_of_the_servers_patience(daemon: Daemon) -> None:
    """Node closes what has been idle for 300 ms, at the very moment when the next request may be on its way."""
    with Line(daemon, 30) as line:
        assert line.get("/hasty/echo").status == 200
    failures: list[tuple[str, int]] = []
    gate = threading.Barrier(20)

    def visit(worker: int) -> int:
        chance = random.Random(worker)
        with Line(daemon, 60) as line:
            for n in range(10):
                method = "POST" if (worker + n) % 2 else "GET"
                reply = line.get("/hasty/echo", method=method, body=b"body" if method == "POST" else b"")
                if reply.status != 200:
                    failures.append((method, reply.status))
                gate.wait(60 * SLOWNESS)
                time.sleep(0.3 + chance.uniform(-0.012, 0.012))  # noqa: TID251  # the end of its patience
        return 10

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(visit, range(20))) == 200
    assert failures == []


def group(leader: int) -> list[int]:
    """The living processes of a process group (proc(5): the fields after the name in parentheses)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(pgrp) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found
