"""A peer that accepts a connection and then is silent, never ends, or drips: every wait has an end."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import refusals
from fakes.faults import line
from flyatc.control import client
from flyatc.control.types import Overview, socket_of
from flyatc.databases.litestream.client import Control, ControlFailed
from flyatc.fly import api_http, local_api
from flyatc.fly.api_http import ApiTransport, Request
from flyatc.fly.api_types import Away, NotFound
from flyatc.fly.environment import Machine
from flyatc.fly.local_api import LocalApi, NotAsked, Unanswered

ME = Machine("sim", "3d8dd15c1ed778", "iad")


@pytest.mark.parametrize("fault", ["endless", "drip"])
async def test_a_machines_api_that_never_ends_its_response_is_away(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    for name in ("CONNECT_SECONDS", "READ_SECONDS"):
        monkeypatch.setattr(api_http, name, 0.3)
    with refusals.refusing(404, "NotFound", "x" * 5000) as server, line(server.port) as wire:
        environ = {"FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{wire.port}", "FLY_API_TOKEN": "token"}
        api = ApiTransport(environ, patience=0.3)
        wire.endless() if fault == "endless" else wire.drip(0.1)
        for _ in range(api_http.AT_ONCE + 1):
            began = time.monotonic()
            with pytest.raises(Away) as caught:
                await api.send(Request("GET", "/v1/apps/sim/machines", read=0.3))
            assert caught.value.done
            assert time.monotonic() - began < 15
        wire.pass_through()
        with pytest.raises(NotFound):
            await api.send(Request("GET", "/v1/apps/sim/machines"))
        await api.close()


@contextlib.contextmanager
def listening(path: Path, *, full: bool = False) -> Iterator[None]:
    """A socket at which no one accepts; ``full``: not even the kernel does, for it has no room."""
    with contextlib.ExitStack() as held:
        one = held.enter_context(socket.socket(socket.AF_UNIX))
        one.bind(str(path))
        one.listen(0)
        for _ in range(2 if full else 0):
            other = held.enter_context(socket.socket(socket.AF_UNIX))
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                other.connect(str(path))
        yield


async def test_a_platform_socket_that_accepts_no_connection_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_api, "CONNECT", 0.2)
    monkeypatch.setattr(local_api, "PATIENCE", 0.2)
    with listening(tmp_path / "full", full=True), pytest.raises((NotAsked, Unanswered)):
        await LocalApi(tmp_path / "full", ME).ask("stop")
    with listening(tmp_path / "silent"), pytest.raises(Unanswered):
        await LocalApi(tmp_path / "silent", ME).ask("stop")


@pytest.mark.parametrize("answer", [b"", b"\r\n\r\n", b"HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b"x" * 100_000])
async def test_a_litestream_that_says_nothing_sensible_has_failed(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "socket"):
        with pytest.raises(ControlFailed):
            await Control(tmp_path / "socket").listed()


async def test_a_litestream_that_accepts_no_connection_is_given_up(tmp_path: Path) -> None:
    with listening(tmp_path / "socket", full=True):
        began = time.monotonic()
        with pytest.raises(ControlFailed):
            await Control(tmp_path / "socket").listed()
        assert time.monotonic() - began < 15


def test_a_command_to_a_daemon_that_hangs_ends_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was stopped by SIGSTOP: the kernel takes the connection."""
    monkeypatch.setattr(client, "PATIENCE", 0.3)
    path = socket_of(tmp_path)
    path.parent.mkdir(parents=True)
    with listening(path), pytest.raises(client.Silent, match="does not answer within"):
        client.Client(str(tmp_path)).get("/status", Overview)


def test_a_command_waits_for_what_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop saves first, which may take longer than any patience for a question."""
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    path = socket_of(tmp_path)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen(1)

        def serve() -> None:
            there, _ = one.accept()
            with there:
                there.recv(65536)
                threading.Event().wait(0.5)
                there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + b'{"changed":true}')

        server = threading.Thread(target=serve)
        server.start()
        from flyatc.control.types import Switched

        assert client.Client(str(tmp_path)).post("/maintenance", Switched).changed
        server.join()
