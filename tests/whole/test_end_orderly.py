"""SIGTERM and SIGINT: requests in flight are finished, all apps stopped in parallel, everything saved, in time."""

import contextlib
import http.client
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, Daemon, config, eventually, read_all, restless


@contextlib.contextmanager
def amid_an_answer(daemon: Daemon, path: str) -> Iterator[socket.socket]:
    """The first bytes of the answer are here."""
    with daemon.connect(30) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
        yield raw


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_finished_all_is_saved_and_the_exit_code_is_0(
    start: StartDaemon, number: signal.Signals
) -> None:
    daemon = start(config())
    assert daemon.post("/ann/two/add").json["count"] == 1
    with amid_an_answer(daemon, "/ann/one/sse?n=10&pause=0.1") as raw:
        daemon.signal(number)
        daemon.until_reported("tenant draining", tenant="ann/one")
        with pytest.raises(ConnectionRefusedError):
            daemon.get("/ann/two/up")
        rest = read_all(raw)
    assert rest.count(b"data: event") >= 8
    assert rest.endswith(b"0\r\n\r\n")
    assert daemon.wait() == 0
    assert evidence.stored_rows(evidence.remote(daemon, "ann/two")) == 1
    assert evidence.processes_of(daemon.folder) == []


def test_tenants_are_stopped_in_parallel(start: StartDaemon) -> None:
    names = [f"t{n}" for n in range(5)]
    users = f"users: {{ann: {{tenants: [{', '.join(names)}]}}}}"
    daemon = start(config(users=users, flags=("--slow-term", "1.5")).replace("stop_grace: 2s", "stop_grace: 10s"))
    with ThreadPoolExecutor(5) as pool:
        assert [one.status for one in pool.map(lambda name: daemon.post(f"/ann/{name}/add"), names)] == [200] * 5
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 4 * SLOWNESS, "one after the other it would be 7.5 s"
    assert daemon.reported("the app did not end by itself") == []
    assert [evidence.stored_rows(evidence.remote(daemon, f"ann/{name}")) for name in names] == [1] * 5


def test_a_second_signal_hurries(start: StartDaemon) -> None:
    daemon = start(config(flags=("--ignore-term",)).replace("stop_grace: 2s", "stop_grace: 20s"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    daemon.signal(signal.SIGTERM)
    daemon.until_reported("tenant saving")
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - began < 3 * SLOWNESS
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1


def test_the_end_is_in_time_with_an_app_that_ignores_sigterm_and_a_client_that_is_stuck(start: StartDaemon) -> None:
    patience = 3.0 * SLOWNESS
    stubborn = config(
        flags=("--ignore-term", "--fork-child"),
        server=f"  shutdown_timeout: {patience:.1f}s",
        app="  drain_timeout: 60s",
    ).replace("stop_grace: 2s", "stop_grace: 60s")
    daemon = start(stubborn)
    assert daemon.post("/ann/one/add").json["count"] == 1
    with amid_an_answer(daemon, "/ann/one/chunked?n=600&pause=0.1"):
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < patience + 0.5 * SLOWNESS
    assert evidence.processes_of(daemon.folder) == []
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1


def test_the_end_does_not_wait_for_a_start(start: StartDaemon) -> None:
    daemon = start(config(flags=("--ready-after", "30")))
    with daemon.connect() as raw:
        raw.sendall(b"GET /ann/one/up HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n")
        daemon.until_reported("tenant starting")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5 * SLOWNESS
        answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert evidence.processes_of(daemon.folder) == []


def test_a_save_that_fails_makes_the_exit_code_1_and_the_next_start_saves_without_a_client(start: StartDaemon) -> None:
    daemon = start(config(server="  shutdown_timeout: 2s"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    with evidence.moved_away(evidence.store(daemon), instead=b""):
        began = time.monotonic()
        assert daemon.stop() == 1
        assert time.monotonic() - began < 3 * SLOWNESS
    assert daemon.until_reported("not saved: the local copy is kept", tenant="ann/one")
    assert evidence.rows(evidence.database(daemon, "ann/one")) == 1
    daemon.start()
    eventually(lambda: evidence.pointer(evidence.remote(daemon, "ann/one")), what="the save")
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1
    assert daemon.stop() == 0
    assert len(daemon.reported("tenant starting")) == 1, "no one had to come"


def test_the_end_is_in_time_although_the_store_hangs(start: StartDaemon) -> None:
    import fcntl

    daemon = start(config(server="  shutdown_timeout: 2s"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    with (evidence.store(daemon) / ".flyatc" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # each writer waits for it, for half a minute
        began = time.monotonic()
        assert daemon.stop() == 1
        assert time.monotonic() - began < 3.5 * SLOWNESS
    assert evidence.processes_of(daemon.folder) == []
    daemon.start()
    eventually(lambda: evidence.pointer(evidence.remote(daemon, "ann/one")), what="the save")
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1


def test_what_a_killed_daemon_left_unsaved_is_saved_even_if_the_next_one_is_stopped_at_once(start: StartDaemon) -> None:
    daemon = start(config())
    assert daemon.post("/ann/one/add").json["count"] == 1
    daemon.kill()
    daemon.start()
    assert daemon.stop() == 0
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1


def test_an_idle_machine_saves_and_exits_in_spite_of_health_checks(start: StartDaemon) -> None:
    daemon = start(config(server="  health: /healthz", top="machine_idle: {after: 1s, then: exit}"))
    assert daemon.post("/ann/one/add").json["count"] == 1
    with amid_an_answer(daemon, "/ann/one/sse?n=12&pause=0.1") as raw:
        while not raw.recv(65536).endswith(b"0\r\n\r\n"):
            assert daemon.process is not None
            assert daemon.process.poll() is None
    with contextlib.suppress(ConnectionError, http.client.HTTPException):
        while daemon.get("/healthz").status == 200:
            pass
    assert daemon.wait() == 0
    assert evidence.stored_rows(evidence.remote(daemon, "ann/one")) == 1


def test_an_app_of_another_idle_time_is_no_reason_to_stay(start: StartDaemon) -> None:
    awake = f"users: {{ann: {{command: {restless()}, idle: 0}}}}"
    daemon = start(config(users=awake, top="machine_idle: {after: 1s, then: exit}"))
    assert daemon.get("/ann/up").status == 200
    assert daemon.wait() == 0
