"""File descriptors run short: clients get fewer, databases and apps get theirs."""

import contextlib
import resource
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowness import SLOWNESS
from whole.daemon import Daemon, config, eventually

LIMIT = 128
CLIENTS = 2 * LIMIT
LIMITED = ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh", sys.executable]


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    one = Daemon(tmp_path_factory.mktemp("descriptors"), config(idle="5m"), python=LIMITED).start()
    try:
        yield one
    finally:
        assert one.stop() == 0
        assert not one.reported("unexpected error")
        assert one.reported("stopped: all is saved")


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_the_soft_limit_is_raised_for_the_daemon_and_stays_for_its_apps(tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -Sn 200; ulimit -Hn 400; exec "$@"', "sh", sys.executable]
    one = Daemon(tmp_path, config(), python=limited).start()
    try:
        assert one.get("/ann/one/count").status == 200
        assert (soft_limit(one.pid), soft_limit(one.status("ann/one")["pid"])) == (400, 200)
    finally:
        assert one.stop() == 0


def opened(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir())


def test_idle_connections_give_way_to_new_ones(daemon: Daemon) -> None:
    assert daemon.post("/ann/one/add").json["count"] == 1
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        eventually(lambda: daemon.post("/ann/one/add").status == 200, 5, "idle for long enough to give way")
        assert daemon.get("/ann/one/count").json["count"] == 2, "a warm app"
        assert daemon.post("/ann/two/add").json["count"] == 1, "a cold start"
        assert opened(daemon) < LIMIT
        saved = daemon.cli("backup", "ann/one")
        assert saved.returncode == 0, saved.stderr
    assert daemon.reported("file descriptors are short", level="warning")


def asking(daemon: Daemon, path: str) -> socket.socket:
    """At once, as no thread of many does."""
    client = socket.create_connection(("127.0.0.1", daemon.port), timeout=30 * SLOWNESS)
    with contextlib.suppress(ConnectionError):  # refused already
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def status(client: socket.socket) -> int:
    with client.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def test_busy_clients_are_refused_while_databases_are_saved_and_apps_started(daemon: Daemon) -> None:
    assert daemon.post("/ann/one/add").json["count"] == 1
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asking(daemon, "/ann/one/slow?s=4")) for _ in range(CLIENTS)]
        started, saved = daemon.cli("start", "ann/two"), daemon.cli("backup", "ann/one")
        assert (started.returncode, saved.returncode) == (0, 0), started.stderr + saved.stderr
        statuses = Counter(status(one) for one in clients)
    assert statuses[200] >= LIMIT // 16
    assert statuses[503] > 0
    assert set(statuses) == {200, 503}
    eventually(lambda: daemon.get("/ann/one/count").status == 200, 5, "the end of the connections")
    assert daemon.get("/ann/one/count").json["count"] == 1
