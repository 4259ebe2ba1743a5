"""Servers of the Machines API, with ``/sim`` for ``flyatc sim``, and of each machine's ``/.fly/api``.

``/.fly/api`` is a unix socket on which a machine may stop or suspend only itself:
https://fly.io/docs/reference/suspend-resume/. It responds before the action takes place.
"""

import asyncio
import re
import socket
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from flyatc.config.schema import Limits
from flyatc.control.call import LARGEST_BODY, ApiResponse, Call, Exchange
from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.sim.api import MachinesApi
from flyatc.sim.machines import Machines
from flyatc.sim.types import Failure, Faults, Overview
from flyatc.wire import connection, response, server
from flyatc.wire.errors import BadMessage

AWAY, LOST = "away", "lost"


class ApiServer:
    """HTTP server of the Machines API. ``token``: required of its callers."""

    def __init__(
        self,
        api: MachinesApi,
        machines: Machines,
        token: str,
        overview: Callable[[], Overview],
        break_things: Callable[[Faults], None],
    ) -> None:
        self._api, self._machines, self._token = api, machines, token
        self._overview, self._break_things = overview, break_things
        self._calls: set[Exchange] = set()
        self.fault = ""  # see types.Faults.api
        self.wire = server.Server(self._handle, _refuse, Limits(request_body=LARGEST_BODY, idle_timeout=0))

    async def close(self) -> None:
        self.wire.close_idle()
        await asyncio.gather(*(exchange.cut() for exchange in self._calls))
        self.wire.abort()

    def _handle(self, request: server.Request) -> None:
        of_sim = request.head.path.startswith(b"/sim")
        if self.fault == AWAY and not of_sim:
            return request.abort()
        exchange = Exchange(request, _Handler(self, request, of_sim), self._calls.discard)
        self._calls.add(exchange)
        return exchange.begin()

    # --- for a handler ---

    async def of_fly(self, call: Call, request: server.Request) -> ApiResponse:
        if self.fault and self.fault != LOST:
            raise BadMessage(int(self.fault), "the simulator is set to fail")
        if request.head.line(b"authorization") != f"Bearer {self._token}".encode():
            raise BadMessage(401, "unauthenticated")
        answer = await self._api.answer(call)
        if self.fault == LOST and call.method != "GET":  # the action is done, the response lost
            request.abort()
        return answer

    async def of_sim(self, call: Call) -> ApiResponse:
        match (call.method, call.path.split("/")[2:]):
            case ("GET", ["status"]):
                pass
            case ("POST", ["faults"]):
                self._break_things(_decoded(call))
            case ("POST", ["machines", name, verb]):
                one = self._machines.named(name)
                verbs = {"start": one.start, "stop": one.stop, "suspend": one.suspend, "kill": one.kill}
                if verb not in verbs:
                    raise BadMessage(404, f"a machine has no command {verb}")
                await verbs[verb]()
            case _:
                raise BadMessage(404, f"there is nothing at {call.path}")
        return ApiResponse(200, msgspec.json.encode(self._overview()))


class _Handler:
    """Handler of one call (control.call.Handler), with the request's headers."""

    def __init__(self, door: ApiServer, request: server.Request, of_sim: bool) -> None:
        self._door, self._request, self._of_sim = door, request, of_sim

    async def answer(self, call: Call) -> ApiResponse:
        return await (self._door.of_sim(call) if self._of_sim else self._door.of_fly(call, self._request))

    def fault(self, call: Call, error: Exception) -> ApiResponse:
        if isinstance(error, FlyatcError):
            return MachinesApi.fault(error)
        return ApiResponse(500, msgspec.json.encode(Failure("".join(traceback.format_exception(error)))))


def _decoded(call: Call) -> Faults:
    try:
        found = msgspec.json.decode(call.body, type=Faults)
    except msgspec.DecodeError as error:
        raise BadMessage(400, str(error)) from error
    if found.api not in ("", AWAY, LOST) and not (found.api.isdigit() and 400 <= int(found.api) < 600):
        raise BadMessage(400, f"api: {found.api!r} is neither away nor lost, nor a status of failure")
    return found


def _refuse(_: server.Connection, fault: BadMessage, started: bytes) -> bytes:
    return response.build(fault.status, [], b"", head_only=False, close=True)


UNREACHABLE = "away"
_SELF = re.compile(r"/v1/apps/(?P<app>[^/]+)/machines/(?P<id>[^/]+)/(stop|suspend)")


class LocalApis:
    """The ``/.fly/api`` sockets of all machines. ``fault``: as set for the Machines API, see types.Faults."""

    def __init__(self, api: MachinesApi, fault: Callable[[], str]) -> None:
        self._api, self._fault = api, fault
        # short: a socket's address is limited to 108 bytes (unix(7))
        self._folder = tempfile.TemporaryDirectory(prefix="flyatc-")
        self._doors: list[_LocalApi] = []
        self._opening: list[asyncio.Task[None]] = []

    def open(self, app: str, machine: str) -> Path:
        """Open the machine's socket and return its path."""
        path = Path(self._folder.name) / machine
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind(str(path))
        one.setblocking(False)
        door = _LocalApi(self._api, self._fault, app, machine)
        self._doors.append(door)
        self._opening.append(tasks.start(door.open(one), f"local API of {machine}"))
        return path

    async def close(self) -> None:
        await asyncio.gather(*self._opening)
        await asyncio.gather(*(door.close() for door in self._doors))
        self._folder.cleanup()


class _LocalApi:
    """The ``/.fly/api`` of one machine; handler of its calls (control.call.Handler)."""

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
        await asyncio.sleep(0)  # connections close at the loop's next iteration

    async def answer(self, call: Call) -> ApiResponse:
        if fault := self._fault():
            raise BadMessage(int(fault), "the simulator is set to fail")
        match = _SELF.fullmatch(call.path)
        if match is None or call.method != "POST":
            raise BadMessage(404, "404 page not found")
        if (match["app"], match["id"]) != (self._app, self._machine):
            raise BadMessage(403, "a machine may stop and suspend itself only")
        return await self._api.answer(call)

    def fault(self, call: Call, error: Exception) -> ApiResponse:
        if isinstance(error, FlyatcError):
            return self._api.fault(error)
        return ApiResponse(500, b"")

    def _handle(self, request: server.Request) -> None:
        if self._fault() == UNREACHABLE:
            return request.abort()
        exchange = Exchange(request, self, self._calls.discard)
        self._calls.add(exchange)
        return exchange.begin()
