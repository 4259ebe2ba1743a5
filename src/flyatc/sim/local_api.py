"""``/.fly/api`` of each machine: a unix socket on which it may stop or suspend itself, and nobody else.

https://fly.io/docs/reference/suspend-resume/. It answers at once: what was asked comes afterwards.
"""

import asyncio
import re
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flyatc.config.schema import Limits
from flyatc.control.call import LARGEST_BODY, Answer, Call, Exchange
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.sim.api import MachinesApi
from flyatc.wire import answer, connection, server
from flyatc.wire.faults import BadMessage

AWAY = "away"
_SELF = re.compile(r"/v1/apps/(?P<app>[^/]+)/machines/(?P<id>[^/]+)/(stop|suspend)")


class LocalApis:
    """``fault``: that of the Machines API, see shapes.Faults."""

    def __init__(self, api: MachinesApi, fault: Callable[[], str]) -> None:
        self._api, self._fault = api, fault
        self._folder = tempfile.TemporaryDirectory(
            prefix="flyatc-"
        )  # short: a socket's address has 108 bytes (unix(7))
        self._doors: list[_Door] = []
        self._opening: list[asyncio.Task[None]] = []

    def open(self, app: str, machine: str) -> Path:
        """The machine's socket."""
        path = Path(self._folder.name) / machine
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind(str(path))
        one.setblocking(False)
        door = _Door(self._api, self._fault, app, machine)
        self._doors.append(door)
        self._opening.append(tasks.start(door.open(one), f"local API of {machine}"))
        return path

    async def close(self) -> None:
        await asyncio.gather(*self._opening)
        await asyncio.gather(*(door.close() for door in self._doors))
        self._folder.cleanup()


class _Door:
    """Handler of its own calls (control.call.Handler)."""

    def __init__(self, api: MachinesApi, fault: Callable[[], str], app: str, machine: str) -> None:
        self._api, self._fault, self._app, self._machine = api, fault, app, machine
        self._calls: set[Exchange] = set()
        self._server: asyncio.Server | None = None
        self._wire = server.Server(self._handle, _refuse, Limits(request_body=LARGEST_BODY, idle_timeout=0))

    async def open(self, one: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(partial(connection.Connection, self._wire), sock=one)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._wire.close_idle()
        await asyncio.gather(*(exchange.cut() for exchange in self._calls))
        self._wire.abort()
        await asyncio.sleep(0)  # the connections are told at the loop's next turn

    async def answer(self, call: Call) -> Answer:
        if fault := self._fault():
            raise BadMessage(int(fault), "the simulator was told to fail")
        match = _SELF.fullmatch(call.path)
        if match is None or call.method != "POST":
            raise BadMessage(404, "404 page not found")
        if (match["app"], match["id"]) != (self._app, self._machine):
            raise BadMessage(403, "a machine may stop and suspend itself only")
        return await self._api.answer(call, None)

    def fault(self, call: Call, error: Exception) -> Answer:
        if isinstance(error, FlyatcError):
            return self._api.fault(error)
        return Answer(500, b"")

    def _handle(self, request: server.Request) -> None:
        if self._fault() == AWAY:
            return request.abort()
        exchange = Exchange(request, self, self._calls.discard)
        self._calls.add(exchange)
        return exchange.begin()


def _refuse(_: server.Connection, fault: BadMessage, came: bytes) -> bytes:
    return answer.build(fault.status, [], b"", head_only=False, close=True)
