"""The control socket: a real one, with a fake daemon behind it."""

import asyncio
import contextlib
import importlib
import io
import itertools
import json
import os
import select
import shutil
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.operations import WINTER, Desk
from fakes.waiting import eventually
from flyatc.config.errors import ConfigError, Fault
from flyatc.config.schema_sections import Listen
from flyatc.control import api, application, client, http_server, listeners
from flyatc.control.types import History, Overview, Reloaded, socket_of
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError, SaveFailed
from flyatc.kit.unix_socket import short_path
from flyatc.observe.log import Log
from flyatc.tenants.errors import Failed
from slowness import SLOWNESS

HERE = Listen("127.0.0.1", 0)


@contextlib.asynccontextmanager
async def serving(data: Path, listen: Listen | None = None) -> AsyncIterator[tuple[Desk, listeners.Listeners]]:
    desk, log = Desk(), Log(io.BytesIO())
    one = listeners.Listeners(desk, log, data, listen)
    await one.open()
    try:
        yield desk, one
    finally:
        await one.close()
        log.close()


@contextlib.asynccontextmanager
async def asking(data: Path, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
    with short_path(socket_of(data)) as name:
        reader, writer = await asyncio.open_unix_connection(name)
    writer.write(request)
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_status_is_served_over_a_socket_that_only_its_owner_may_use(tmp_path: Path) -> None:
    async with serving(tmp_path):
        path = socket_of(tmp_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        overview = await asyncio.to_thread(lambda: client.Client(str(tmp_path)).get("/status", Overview))
        assert overview.tenants[0] == WINTER
    assert not path.exists()


async def test_a_folder_deeper_than_a_sockets_address_serves_as_well(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with serving(deep):
        assert await asyncio.to_thread(lambda: client.Client(str(deep)).get("/status", Overview))


async def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    listeners.claim(socket_of(tmp_path)).close()
    assert socket_of(tmp_path).is_socket()
    async with serving(tmp_path):
        assert await asyncio.to_thread(lambda: client.Client(str(tmp_path)).get("/status", Overview))


async def test_a_live_socket_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path):
        with pytest.raises(FlyatcError, match="another flyatc runs"):
            async with serving(tmp_path):
                pass
        assert await asyncio.to_thread(lambda: client.Client(str(tmp_path)).get("/status", Overview))


async def test_a_socket_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    async with serving(tmp_path):
        shutil.rmtree(tmp_path / ".flyatc")
        await eventually(socket_of(tmp_path).is_socket)
        assert await asyncio.to_thread(lambda: client.Client(str(tmp_path)).get("/status", Overview))
    assert not socket_of(tmp_path).exists()


async def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = socket_of(tmp_path)
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(FlyatcError, match="it is no socket"):
        listeners.claim(path)
    assert path.read_text() == "precious"


async def test_commands_reach_the_daemon(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        daemon = client.Client(str(tmp_path))
        for verb in ("start", "stop", "restart"):
            await asyncio.to_thread(lambda verb=verb: daemon.post(f"/{verb}", dict, address="bellevue"))  # type: ignore[misc]
        reloaded = await asyncio.to_thread(lambda: daemon.post("/reload", Reloaded))
        history = await asyncio.to_thread(lambda: daemon.get("/history", History, address="bellevue", database="a.db"))
        assert desk.reported == [
            "start bellevue",
            "stop bellevue",
            "restart bellevue",
            "reload",
            "history bellevue a.db",
        ]
        assert reloaded.added == ["boston"]
        assert [version.current for version in history.versions] == [True, False]


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (Failed("bellevue", "it keeps crashing", 4.0), 503, "bellevue: it keeps crashing"),
        (SaveFailed("the store is away"), 503, "the store is away"),
        (
            ConfigError([Fault("t.yaml", 3, "app", "is odd"), Fault("t.yaml", 4, "", "so is this")]),
            422,
            "is odd\nt.yaml:4",
        ),
        (FlyatcError("that cannot be"), 409, "that cannot be"),
        (ZeroDivisionError("oh"), 500, "a bug in flyatc: ZeroDivisionError"),
    ],
)
async def test_errors_become_responses(tmp_path: Path, error: Exception, status: int, sentence: str) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.fails = error
        with pytest.raises(client.Refused, match=sentence) as caught:
            await asyncio.to_thread(lambda: client.Client(str(tmp_path)).post("/stop", dict, address="bellevue"))
        assert caught.value.status == status


async def test_a_bug_is_logged_with_its_call(tmp_path: Path) -> None:
    log = Log(io.BytesIO())
    desk = Desk()
    desk.fails = ZeroDivisionError("oh")
    one = listeners.Listeners(desk, log, tmp_path, None)
    await one.open()
    with pytest.raises(client.Refused):
        await asyncio.to_thread(lambda: client.Client(str(tmp_path)).post("/stop", dict, address="bellevue"))
    await one.close()
    log.close()
    [(_, _, line)] = log.journal.since(0)
    assert json.loads(line)["call"] == "POST /stop"
    assert "ZeroDivisionError" in json.loads(line)["error"]


async def test_an_unknown_name_is_404_with_a_hint(tmp_path: Path) -> None:
    async with serving(tmp_path):
        with pytest.raises(client.Refused, match="did you mean bellevue/2025/winter") as caught:
            await asyncio.to_thread(lambda: client.Client(str(tmp_path)).post("/start", dict, address="nonesuch"))
        assert caught.value.status == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\xff{}", 400),
        (b'POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{"address":"b","force":true}', 400),
        (b"POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", 413),
        (b"GET /route HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /route?" + b"a=1&" * 40 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /logs?lines=-1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_what_is_not_understood_is_refused(tmp_path: Path, request_: bytes, status: int) -> None:
    async with serving(tmp_path) as (desk, _):
        async with asking(tmp_path, request_) as reader:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5 * SLOWNESS)
            assert head.split()[1] == str(status).encode()
            assert b'{"error":' in await asyncio.wait_for(reader.readuntil(b"}"), 5 * SLOWNESS)
        assert desk.reported == []


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"POST /stop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET /" + b"x" * (64 << 10) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_malformed_http_is_refused(tmp_path: Path, request_: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as (desk, _), asking(tmp_path, request_) as reader:
        assert (await asyncio.wait_for(reader.read(), 5 * SLOWNESS)).startswith(b"HTTP/1.0 400 ")
        assert desk.reported == []
    assert capfd.readouterr() == ("", "")


async def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "BODY_SECONDS", 0.1)
    request = b"POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\n{"
    async with serving(tmp_path), asking(tmp_path, request) as reader:
        assert (await asyncio.wait_for(reader.read(), 5 * SLOWNESS)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_does_not_arrive_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.1)
    async with serving(tmp_path), asking(tmp_path, b"GET /status HTT") as reader:
        assert await asyncio.wait_for(reader.read(), 5 * SLOWNESS) == b""


@pytest.mark.parametrize("path", ["/status", "/logs?lines=100000&follow=1"])
async def test_a_client_that_does_not_read_is_cut(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "WRITE_SECONDS", 0.2)
    async with serving(tmp_path) as (desk, _):
        desk.tenants = [WINTER] * 20_000
        for _ in range(3000):
            desk.journal.add(None, b"x" * 1000)
        with socket.socket(socket.AF_UNIX) as stalled:
            with short_path(socket_of(tmp_path)) as name:
                stalled.connect(name)
            stalled.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            poll = select.poll()
            poll.register(stalled, 0)  # POLLHUP is always reported
            await eventually(lambda: poll.poll(0))


async def test_a_follower_that_was_cut_goes_on_after_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "WRITE_SECONDS", 0.2)
    async with serving(tmp_path) as (desk, _):
        desk.journal.add(None, b"%07d" % 0)
        follower = client.Client(str(tmp_path)).read_events("/logs", lines="1", follow="1")
        assert await asyncio.to_thread(next, follower) == b"0000000"
        for number in range(1, 1500):  # less than the journal keeps
            desk.journal.add(None, b"%07d" % number + b"x" * 1000)
        await asyncio.sleep(1)  # the client stalls
        found = await asyncio.to_thread(lambda: [int(one[:7]) for one in itertools.islice(follower, 1499)])
        assert found == list(range(1, 1500))
        follower.close()


async def test_an_error_in_a_stream_is_its_last_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.journal.add(None, b"one")
        follower = client.Client(str(tmp_path)).read_events("/logs", follow="1")
        assert await asyncio.to_thread(next, follower) == b"one"
        monkeypatch.setattr(desk.journal, "since", None)
        desk.journal.add(None, b"two")
        with pytest.raises(client.Refused, match="a bug in flyatc: TypeError"):
            await asyncio.to_thread(next, follower)


async def test_a_silent_stream_has_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "HEARTBEAT", 0.05)
    request = b"GET /logs?lines=0&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(tmp_path), asking(tmp_path, request) as reader:
        await asyncio.wait_for(reader.readuntil(b"\r\n:\n\n"), 5 * SLOWNESS)


async def test_the_number_of_connections_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 2)
    follow = b"GET /logs?follow=1&lines=0 HTTP/1.1\r\nHost: x\r\n\r\n"
    status = b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving(tmp_path):
        async with asking(tmp_path, follow) as one, asking(tmp_path, follow) as two:
            for reader in (one, two):
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5 * SLOWNESS)
            async with asking(tmp_path, status) as third:
                assert (await asyncio.wait_for(third.read(), 5 * SLOWNESS)).startswith(b"HTTP/1.1 503 ")
        async with asking(tmp_path, status) as fourth:
            assert (await asyncio.wait_for(fourth.read(), 5 * SLOWNESS)).startswith(b"HTTP/1.1 200 ")


async def test_the_processes_of_apps_are_refused(tmp_path: Path) -> None:
    one = listeners.Listeners(Desk(), Log(io.BytesIO()), tmp_path, None, lambda: {os.getppid()})
    await one.open()
    try:
        with pytest.raises(client.Refused, match="the processes of an app may not command the daemon") as caught:
            await asyncio.to_thread(lambda: client.Client(str(tmp_path)).get("/status", Overview))
    finally:
        await one.close()
    assert caught.value.status == 403


async def test_a_server_that_cannot_start_is_reported_and_hangs_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "server", lambda *_: importlib.import_module("no_such_library"))
    log = Log(io.BytesIO())
    one = listeners.Listeners(Desk(), log, tmp_path, None)
    await one.open()
    with pytest.raises((client.NoDaemon, client.Cut)):
        await asyncio.to_thread(lambda: client.Client(str(tmp_path)).get("/status", Overview))
    await one.close()
    log.close()
    [(_, _, line)] = log.journal.since(0)
    assert "no_such_library" in json.loads(line)["reason"]


async def test_an_operator_who_leaves_cancels_the_command(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.gate.clear()
        body = b'{"address":"bellevue"}'
        async with asking(tmp_path, b"POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\n" + body):
            await asyncio.wait_for(desk.begun.wait(), 5 * SLOWNESS)
        await eventually(lambda: desk.reported == ["stop bellevue", "cancelled"])


async def test_the_end_of_the_daemon_cuts_what_is_under_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.gate.clear()
        asked = tasks.start(
            asyncio.to_thread(lambda: client.Client(str(tmp_path)).post("/stop", dict, address="b")), "operator"
        )
        await asyncio.wait_for(desk.begun.wait(), 5 * SLOWNESS)
    assert desk.reported == ["stop b", "cancelled"]
    with pytest.raises(client.Cut, match="in the midst of its response"):
        await asked


async def test_a_copy_is_a_file_with_its_length(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        daemon, found = client.Client(str(tmp_path)), io.BytesIO()
        query = {"address": "bellevue", "database": "a.db", "version": "000001-000000001"}
        size = await asyncio.to_thread(lambda: daemon.get_file("/copy", found, **query))
        assert found.getvalue() == desk.copied.read_bytes()
        assert (size, desk.reported) == (len(found.getvalue()), ["copy bellevue a.db 000001-000000001"])
        await asyncio.to_thread(lambda: daemon.get_file("/copy", found, address="b", database="a.db", at="1.5"))
        assert desk.reported[-1] == "copy b a.db Moment(at=1.5)"
        desk.fails = FlyatcError("no room")
        for more, reason in (({"database": "a.db"}, "no room"), ({}, "name the one to be copied")):
            with pytest.raises(client.Refused, match=reason):
                await asyncio.to_thread(lambda more=more: daemon.get_file("/copy", found, address="b", **more))  # type: ignore[misc]


async def test_a_copy_that_cannot_be_sent_to_the_end_is_cut(tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    with copied.open("wb") as file:
        file.truncate(64 << 20)

    class Target(io.BytesIO):
        def write(self, data: object) -> int:
            os.truncate(copied, 0)
            return len(data)  # type: ignore[arg-type]

    async with serving(tmp_path) as (desk, _):
        desk.copied = copied
        daemon = client.Client(str(tmp_path))
        with pytest.raises(client.Cut):
            await asyncio.to_thread(lambda: daemon.get_file("/copy", Target(), address="b", database="a.db"))


async def test_progress_is_sent_line_by_line_and_then_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.steps = [("copy", 1, 2), ("copy", 2, 2), ("upload", 7, 7)]
        daemon = client.Client(str(tmp_path))
        lines = await asyncio.to_thread(
            lambda: list(daemon.post_lines("/restore", address="b", database=None, version="000001-1"))
        )
        assert [json.loads(line) for line in lines] == [
            {"step": "copy", "done": 1, "total": 2},
            {"step": "copy", "done": 2, "total": 2},
            {"step": "upload", "done": 7, "total": 7},
            {"finished": True, "notes": []},
        ]
        assert desk.reported == ["restore b None 000001-1"]


async def test_an_error_after_the_first_line_is_the_last_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.steps, desk.fails = [("copy", 1, 2)], SaveFailed("the disk is full")
        reported: list[bytes] = []
        with pytest.raises(client.Refused, match="the disk is full"):
            await asyncio.to_thread(
                lambda: reported.extend(client.Client(str(tmp_path)).post_lines("/backup", address="b"))
            )
        assert reported == [b'{"step":"copy","done":1,"total":2}']


async def test_steps_that_the_operator_cannot_take_are_dropped(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.steps = [("copy", number, 10**6) for number in range(50_000)]
        request = b'POST /backup HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{"address":"b"}'
        async with asking(tmp_path, request) as reader:
            count = 0
            last = b'{"finished":true,"notes":[]}\n'
            while (line := await asyncio.wait_for(reader.readline(), 5 * SLOWNESS)) != last:
                count += line.startswith(b'{"step"')
        assert 0 < count < 40_000


async def test_a_follower_that_stalls_delays_no_other_and_costs_no_memory(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        async with asking(tmp_path, b"GET /logs?lines=0&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n") as reader:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5 * SLOWNESS)
            for number in range(300):  # 30 MB, more than the journal keeps
                for _ in range(100):
                    desk.journal.add(None, b"%08d" % number + b"x" * 1000)
                await asyncio.sleep(0)
            desk.journal.add(None, b"the newest")
            took = 0
            while (line := await asyncio.wait_for(reader.readline(), 5 * SLOWNESS)) != b"data: the newest\n":
                took += len(line)
        assert took < 20_000_000


async def test_logs_are_the_last_lines_and_then_what_comes(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        for number in range(5):
            desk.journal.add("b/1", b'{"n":%d}' % number)
        desk.journal.add("c", b'{"other":1}')
        daemon = client.Client(str(tmp_path))
        assert await asyncio.to_thread(lambda: list(daemon.read_events("/logs", address="b", lines="2"))) == [
            b'{"n":3}',
            b'{"n":4}',
        ]
        assert await asyncio.to_thread(lambda: list(daemon.read_events("/logs", lines="0"))) == []
        follower = daemon.read_events("/logs", address="b/1", lines="1", follow="1")
        assert await asyncio.to_thread(lambda: next(follower)) == b'{"n":4}'
        desk.journal.add("c", b'{"other":2}')
        desk.journal.add("b/1", b'{"n":5}')
        assert await asyncio.to_thread(lambda: next(follower)) == b'{"n":5}'
        follower.close()


async def test_an_old_client_gets_lines_until_the_connection_closes(tmp_path: Path) -> None:
    async with serving(tmp_path) as (desk, _):
        desk.journal.add(None, b'{"n":1}')
        async with asking(tmp_path, b"GET /logs HTTP/1.0\r\n\r\n") as reader:
            answer = await asyncio.wait_for(reader.read(), 5 * SLOWNESS)
        assert answer.endswith(b'\ndata: {"n":1}\n\n')
        assert b"chunked" not in answer


async def test_on_tcp_there_is_monitoring_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path, HERE) as (desk, one):
        assert one.port is not None
        answers = {
            path: await over_tcp(one.port, path) for path in ("/healthz", "/metrics", "/status", "/logs", "/stop")
        }
        assert answers["/healthz"].startswith(b"HTTP/1.1 200")
        assert answers["/healthz"].endswith(b'{"status":"ok"}')
        assert answers["/metrics"].startswith(b"HTTP/1.1 200")
        for path in ("/status", "/logs", "/stop"):
            assert answers[path].startswith(b"HTTP/1.1 404"), path
        desk.stopping = True
        assert (await over_tcp(one.port, "/healthz")).startswith(b"HTTP/1.1 503")


async def test_a_control_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = listeners.Listeners(Desk(), Log(io.BytesIO()), tmp_path, Listen("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(FlyatcError, match=r"server\.control"):
            await one.open()
    assert not socket_of(tmp_path).exists()


async def test_metrics_count_what_was_done(tmp_path: Path) -> None:
    async with serving(tmp_path, HERE) as (desk, one):
        desk.counters.count("bellevue/2025/winter", 200, 4000)
        desk.counters.count("bellevue/2025/winter", 204, 90)
        desk.counters.count("", 404, 6)
        desk.counters.seconds, desk.counters.tunnels = 1.5, 3
        assert one.port is not None
        lines = (await over_tcp(one.port, "/metrics")).decode().splitlines()
        for line in (
            'flyatc_requests_total{status="2xx",tenant="bellevue/2025/winter"} 2.0',
            'flyatc_requests_total{status="4xx",tenant=""} 1.0',
            "flyatc_request_seconds_total 1.5",
            "flyatc_sent_bytes_total 4096.0",
            "flyatc_tunnels 3.0",
            'flyatc_tenants{state="ready"} 1.0',
            'flyatc_tenants{state="failed"} 0.0',
            'flyatc_app_starts_total{tenant="bellevue/2025/winter"} 3.0',
            'flyatc_app_crashes_total{tenant="bellevue/2025/winter"} 1.0',
            'flyatc_tenant_unsaved{tenant="bellevue/2025/winter"} 0.0',
            "flyatc_apps_running 1.0",
        ):
            assert line in lines
        for name in ("flyatc_resident_memory_bytes", "flyatc_uptime_seconds", "flyatc_tenant_save_age_seconds"):
            [value] = [float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
            assert value > 0


async def over_tcp(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10 * SLOWNESS)
    writer.close()
    await writer.wait_closed()
    return answer


def test_without_a_daemon_the_client_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(client.NoDaemon, match="start it with flyatc serve"):
        client.Client(str(tmp_path)).get("/status", Overview)
    listeners.claim(socket_of(tmp_path)).close()
    with pytest.raises(client.NoDaemon, match="start it with flyatc serve"):
        client.Client(str(tmp_path)).get("/status", Overview)
