"""Upgrades: raw tunnels, and what is refused."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import websockets

from slowness import SLOWNESS
from whole.daemon import Daemon, eventually, restless
from whole.visits import Line, get, parrot, request, say, serving

USERS = f"""
users:
  ann: null
  eve: {{command: {restless()}}}
  short: {{command: {restless()}, idle: 500ms}}
"""
WEBSOCKET = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAA",
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nX-Extra: 1\r\n\r\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    limits = "limits: {header_timeout: 1s, body_timeout: 1s, idle_timeout: 1s, write_timeout: 1s}"
    config = parrot(users=USERS, app="  response_timeout: 2s", top=limits)
    with serving(tmp_path_factory.mktemp("upgrades"), config) as one:
        yield one


async def test_a_websocket_talks_through_with_its_subprotocol_its_pings_and_its_close(daemon: Daemon) -> None:
    url = f"ws://127.0.0.1:{daemon.port}/eve/upgrade?frames=1"
    async with websockets.connect(
        url, subprotocols=[websockets.Subprotocol("actioncable-v1-json")], compression=None
    ) as ws:
        assert ws.subprotocol == "actioncable-v1-json"
        for message in ("hello", b"\x00\xff", "x" * 70_000, b"y" * 300_000):
            await ws.send(message)
            assert await ws.recv() == message
        await asyncio.wait_for(await ws.ping(), 10 * SLOWNESS)
        await ws.close(4001, "enough")
    assert ws.close_code == 4001


@pytest.mark.parametrize("name", ["websocket", "WebSocket", "WEBSOCKET"])
def test_the_case_of_the_protocol_does_not_matter(daemon: Daemon, name: str) -> None:
    with Line(daemon) as line:
        line.send(request("/eve/upgrade", "connection: upgrade", f"upgrade: {name}", "Sec-WebSocket-Key: AAAA"))
        assert line.reply().status == 101
        assert line.send(b"raw").take(3) == b"raw"


def test_the_101_keeps_the_apps_headers_and_the_request_is_logged(daemon: Daemon) -> None:
    with Line(daemon) as line:
        reply = line.get(say(SWITCH, more="&close=1"), *WEBSOCKET, "X-Request-Id: switched")
        assert reply.status == 101
        assert reply.headers == [
            ("X-Extra", "1"), ("Connection", "Upgrade"), ("Upgrade", "WebSocket"), ("X-Request-Id", "switched"),
        ]  # fmt: skip
    reported = daemon.until_reported("request", request_id="switched")
    assert reported["status"] == 101


def test_what_is_sent_ahead_of_the_switch_and_with_it_arrives(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.send(request("/eve/upgrade", *WEBSOCKET) + b"sent ahead")
        assert line.reply().status == 101
        assert line.take(10) == b"sent ahead"
    with Line(daemon) as line:
        assert line.get(say(SWITCH + b"early", b" birds", more="&pause=0.02&close=1"), *WEBSOCKET).status == 101
        assert line.rest() == b"early birds"


def test_a_tunnel_outlives_every_limit_of_time(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.get("/eve/upgrade", *WEBSOCKET)
        line.socket.settimeout(2.5)
        with pytest.raises(TimeoutError):
            line.socket.recv(1)
        line.socket.settimeout(10 * SLOWNESS)
        assert line.send(b"still here").take(10) == b"still here"


def test_a_half_close_passes_to_the_app_and_its_last_words_come_back(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.get("/eve/upgrade", *WEBSOCKET)
        line.send(b"x" * 1_000_000)
        line.socket.shutdown(socket.SHUT_WR)
        assert line.rest() == b"x" * 1_000_000  # the echo ends when it has read our end


def test_an_app_that_ends_its_side_still_hears_the_client(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.get(say(SWITCH + b"bye", more="&shut=1"), *WEBSOCKET).status == 101
        assert line.rest() == b"bye"
        line.send(b"x" * 1000)
        line.send(b"y" * 1000)
    eventually(lambda: get(daemon, "/ann/tally").json.get("heard") == 2000, what="the last words of the visitor")


def test_a_refused_upgrade_is_an_ordinary_response_and_the_connection_goes_on(daemon: Daemon) -> None:
    with Line(daemon) as line:
        refused = line.get("/eve/upgrade?refuse=1", *WEBSOCKET)
        assert (refused.status, refused.body) == (403, b"refused")
        assert line.get("/eve/up").body == b"up"
        needed = line.get("/eve/upgrade")
        assert (needed.status, needed.one("Upgrade"), needed.one("Connection")) == (426, "websocket", "Upgrade")
        assert line.get("/eve/up").body == b"up"


def test_an_open_websocket_keeps_the_app_and_a_refused_one_does_not(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.get("/short/upgrade", *WEBSOCKET).status == 101
        with Line(daemon) as other:
            other.get("/short/upgrade?refuse=1", *WEBSOCKET)
        line.socket.settimeout(1.5)
        with pytest.raises(TimeoutError):
            line.socket.recv(1)
        assert not daemon.reported("tenant draining", tenant="short")
    daemon.until_reported("tenant stopped", tenant="short")
    with Line(daemon) as line:
        assert line.get("/short/upgrade?refuse=1", *WEBSOCKET).status == 403
        eventually(lambda: len(daemon.reported("tenant stopped", tenant="short")) == 2, what="the second stop")


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: websocket",),  # without Connection: upgrade
        ("Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"),
        ("Connection: Upgrade",),
    ],
)
def test_an_upgrade_that_was_not_properly_asked_for_is_no_upgrade(daemon: Daemon, headers: tuple[str, ...]) -> None:
    with Line(daemon) as line:
        assert line.get(say(SWITCH), *headers).status == 502
        assert "upgrade" not in line.get("/ann/seen", *headers).json["head"].lower()


def test_an_old_client_cannot_upgrade(daemon: Daemon) -> None:
    with Line(daemon) as line:
        assert line.send(request(say(SWITCH), *WEBSOCKET, version="1.0")).reply().status == 502


def test_many_bytes_each_way_at_once_do_not_jam(daemon: Daemon) -> None:
    async def both() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(request("/eve/upgrade", *WEBSOCKET))
        await reader.readuntil(b"\r\n\r\n")

        async def write() -> None:
            for _ in range(320):
                writer.write(bytes(1 << 16))
                await writer.drain()
            writer.write_eof()

        _, back = await asyncio.gather(write(), reader.read(-1))
        writer.close()
        return len(back)

    assert asyncio.run(both()) == 320 << 16


def test_a_client_that_vanishes_from_a_tunnel_ends_it(daemon: Daemon) -> None:
    with Line(daemon) as line:
        line.get("/eve/upgrade", *WEBSOCKET, "X-Request-Id: vanished")
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    daemon.until_reported("request", request_id="vanished")
    assert get(daemon, "/eve/up").status == 200
