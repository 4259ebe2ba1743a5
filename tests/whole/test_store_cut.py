"""A daemon whose connections to the store are cut or fall silent while it runs: saves are tried again, nothing is lost,
commands are answered, and the end comes in time."""

import shutil
import socket
import time
from pathlib import Path

import pytest

from fakes.faults import CONTINUE, Line, line
from fakes.s3 import Server
from flyatc.control.types import socket_of
from flyatc.kit.unix_socket import short_path
from whole.conftest import StartDaemon
from whole.daemon import SLOWNESS, Daemon, config, eventually

TEXT = config(server="  shutdown_timeout: 4s", users="users: {ann: }").replace(
    "storage: {interval: 0}", "storage: {interval: 1s}"
)


def saves(daemon: Daemon) -> int:
    return len(daemon.reported("saved", tenant="ann"))


def counted(daemon: Daemon) -> int:
    """0: not now."""
    answer = daemon.get("/ann/count")
    return int(answer.json["count"]) if answer.status == 200 else 0


def added_and_saved(daemon: Daemon, wire: Line) -> None:
    before, count = saves(daemon), daemon.post("/ann/add").status
    assert count == 200
    eventually(lambda: saves(daemon) > before, 60, "the next save")
    wire.pass_through()


@pytest.mark.timeout(180)
def test_saves_and_renewals_that_are_cut_are_tried_again_and_nothing_is_lost(
    start: StartDaemon, moto_server: Server
) -> None:
    with line(moto_server.port) as wire:
        daemon = start(TEXT, env=moto_server.environ(moto_server.bucket(), port=wire.port))
        added_and_saved(daemon, wire)
        wire.interim = True
        for octets in (9, len(CONTINUE) - 2, len(CONTINUE), len(CONTINUE) + 40):
            wire.end_after(octets, "close")  # of whichever call comes first
            added_and_saved(daemon, wire)
        wire.end_after(9, "stall")
        added_and_saved(daemon, wire)
        assert not daemon.reported("session expired")
        wire.black_hole()
        backup = daemon.cli("backup", "ann", timeout=90)  # fails or, begun before, succeeds: it ends
        assert backup.returncode in (0, 1)
        wire.pass_through()
        eventually(lambda: counted(daemon), 60, "the visit")
        added_and_saved(daemon, wire)
        rows = eventually(lambda: counted(daemon), 60, "the visit")
        assert rows == 7
        assert daemon.cli("stop", "ann").returncode == 0
        assert daemon.stop() == 0
        assert not daemon.reported("unexpected error")
        assert b"expect:" not in wire.asked.lower()
        shutil.rmtree(daemon.folder / "data")
        daemon.start()
        assert daemon.get("/ann/count").json["count"] == rows


@pytest.mark.parametrize("fault", ["endless", "drip"])
def test_the_end_is_in_time_while_every_call_of_the_store_hangs(
    start: StartDaemon, moto_server: Server, fault: str
) -> None:
    with line(moto_server.port) as wire:
        daemon = start(TEXT, env=moto_server.environ(moto_server.bucket(), port=wire.port))
        added_and_saved(daemon, wire)
        assert daemon.post("/ann/add").status == 200
        wire.drip(0.3) if fault == "drip" else getattr(wire, fault)()
        assert daemon.cli("status").returncode == 0
        before, began = saves(daemon), time.monotonic()
        assert daemon.stop() == 1
        assert time.monotonic() - began < 8 * SLOWNESS
        wire.pass_through()
        daemon.start()
        eventually(lambda: saves(daemon) > before, 60, "the save at the next start")
        assert eventually(lambda: counted(daemon), 60, "the visit") == 2
        assert daemon.stop() == 0


def test_the_session_is_renewed_when_its_connection_hangs_and_users_are_served(
    start: StartDaemon, moto_server: Server
) -> None:
    """The first put of the session too: before, all users stayed owning for ever."""
    with line(moto_server.port) as wire:
        daemon = start(TEXT, env=moto_server.environ(moto_server.bucket(), port=wire.port))
        wire.endless()
        answer = daemon.get("/ann/count", timeout=60)
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        daemon.until_reported("a call of the store was given up", level="error")
        wire.pass_through()
        eventually(lambda: daemon.post("/ann/add").status == 200, 60, "the visit")
        for _ in range(3):
            wire.end_after(0, "stall")
            time.sleep(0.5)  # noqa: TID251 - the session is renewed every 10 s, whichever call is met
        began, expired = time.monotonic(), daemon.reported("session expired")
        while time.monotonic() - began < 12:
            assert daemon.get("/ann/count").status == 200
            time.sleep(0.2)  # noqa: TID251
        assert daemon.reported("session expired") == expired == []
        assert daemon.stop() == 0


def test_an_operator_who_never_reads_the_responses_delays_no_other(start: StartDaemon, tmp_path: Path) -> None:
    daemon = start(config())
    path = socket_of(daemon.folder / "data")
    ask = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
    others = []
    for _ in range(5):
        other = socket.socket(socket.AF_UNIX)
        with short_path(path) as name:
            other.connect(name)
        other.settimeout(0.5)
        try:
            for _ in range(2000):
                other.sendall(ask)
        except TimeoutError:
            pass  # it does not take more questions than it can answer
        others.append(other)
    assert daemon.cli("status").returncode == 0
    assert daemon.get("/bob/count").status == 200
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 10 * SLOWNESS
    for other in others:
        other.close()
