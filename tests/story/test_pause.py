"""The pause in fake time: clients on connections of their own, paused."""

import asyncio
import io
from functools import partial
from pathlib import Path

import pytest

from fakes.stage import make_config
from flyatc.config.schema import Limits
from flyatc.edge.access_log import Recorder
from flyatc.edge.exchange import Exchange
from flyatc.edge.maintenance import Maintenance
from flyatc.edge.responses import Pages, Responder
from flyatc.observe.log import Log
from flyatc.wire import server
from flyatc.wire.connection import Connection

pytestmark = pytest.mark.looptime


class Wire(asyncio.Transport):
    """Writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def close(self) -> None: ...


class Gate:
    """A server where everything goes through ``maintenance``; ``served``: the paths, in order."""

    def __init__(self, folder: Path) -> None:
        self.log = Log(io.BytesIO())
        self.recorder = Recorder(self.log, lines=False)
        self.maintenance = Maintenance(folder, self.log, most=100)
        self.server = server.Server(self._serve, lambda *_: b"", Limits(), partial(Exchange, self.recorder))
        self.tenants = make_config("a", "b").tenants
        self.served: list[str] = []

    def _serve(self, to: Exchange) -> None:
        path = to.head.path.decode()
        responder = Responder(Pages([]), {})
        if not self.maintenance.intercept(to, self.tenants[path[1]], lambda: self._serve(to), responder):
            self.served.append(path)
            responder.plain(to, 200, b"ok")

    def visit(self, path: str) -> tuple[Connection, Wire]:
        connection, wire = Connection(self.server), Wire()
        connection.connection_made(wire)
        connection.data_received(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return connection, wire


@pytest.fixture
async def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


async def test_they_are_released_in_the_order_in_which_they_came(gate: Gate) -> None:
    gate.maintenance.pause("*", 30.0)
    paths = [f"/{'ab'[n % 2]}/{n}" for n in range(50)]
    for path in paths:
        gate.visit(path)
        await asyncio.sleep(0.01)
    assert (gate.served, gate.maintenance.waiting()) == ([], 50)
    assert gate.maintenance.resume("*") == 50
    await asyncio.sleep(0.01)
    assert gate.served == paths
    assert gate.recorder.counters.in_flight == 0


async def test_each_request_waits_for_the_limit_from_its_own_arrival(gate: Gate) -> None:
    gate.maintenance.pause("a", 30.0)
    _, first = gate.visit("/a/1")
    await asyncio.sleep(20)
    _, second = gate.visit("/a/2")
    await asyncio.sleep(15)
    assert first.written.startswith(b"HTTP/1.1 503 ")
    assert not second.written
    gate.maintenance.resume("a")
    await asyncio.sleep(1)
    assert second.written.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_leaves_between_release_and_turn_is_not_served(gate: Gate) -> None:
    gate.maintenance.pause("a", 30.0)
    (leaver, _), (_, stayer) = gate.visit("/a/1"), gate.visit("/a/2")
    gate.maintenance.resume("a")
    leaver.connection_lost(None)
    await asyncio.sleep(1)
    assert gate.served == ["/a/2"]
    assert stayer.written.startswith(b"HTTP/1.1 200 ")
    assert gate.recorder.counters.in_flight == 0


async def test_a_pause_which_begins_anew_before_its_turn_holds_a_request_again(gate: Gate) -> None:
    gate.maintenance.pause("a", 30.0)
    _, wire = gate.visit("/a/1")
    gate.maintenance.resume("a")
    gate.maintenance.pause("a", 30.0)
    await asyncio.sleep(1)
    assert (gate.served, gate.maintenance.waiting("a")) == ([], 1)
    gate.maintenance.resume("a")
    await asyncio.sleep(1)
    assert wire.written.startswith(b"HTTP/1.1 200 ")


async def test_what_cannot_be_written_down_is_not_done(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "paused.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        gate.maintenance.pause("a", 30.0)
    gate.visit("/a/1")
    assert gate.served == ["/a/1"]


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"a": {"limit": "long"}}'])
async def test_an_unreadable_file_pauses_no_request_and_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "paused.json").write_text(text)
    gate = Gate(tmp_path)
    gate.visit("/a/1")
    assert gate.served == ["/a/1"]
    reported = [line for line in gate.log.journal.since(0) if b"could not be read" in line[2]]
    assert len(reported) == 1
