"""Servers of the Machines API, with ``/sim`` for ``flyatc sim``, and of each machine's ``/.fly/api``, on aiohttp.

``/.fly/api`` is a unix socket on which a machine may stop or suspend only itself:
https://fly.io/docs/reference/suspend-resume/. It responds before the action takes place.
"""

import asyncio
import logging
import re
import socket
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from flyatc.kit import tasks
from flyatc.kit.errors import FlyatcError
from flyatc.sim.api import ApiCall, ApiResponse, Call, MachinesApi
from flyatc.sim.machines import Machines
from flyatc.sim.types import Failure, Faults, Overview
from flyatc.wire.errors import BadMessage

AWAY, LOST = "away", "lost"
CLOSE_SECONDS = 0.1  # for calls under way, then they are cut
_SILENT = logging.Logger("aiohttp")
_SILENT.disabled = True

Answer = Callable[[Call, web.BaseRequest], Awaitable[ApiResponse]]


class _Server:
    """HTTP server of one listening socket, on loopback. ``fault``: see types.Faults.api."""

    def __init__(self, answer: Answer, fault: Callable[[web.BaseRequest], str]) -> None:
        self._answer, self._fault = answer, fault
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    async def open(self, one: socket.socket) -> None:
        self._web = web.Server(self._handle, access_log=None, logger=_SILENT, handler_cancellation=True)
        loop = asyncio.get_running_loop()
        make = loop.create_unix_server if one.family == socket.AF_UNIX else loop.create_server
        self._listener = await make(self._web, sock=one)

    async def close(self) -> None:
        if self._listener is not None and self._web is not None:
            self._listener.close()
            await self._web.shutdown(CLOSE_SECONDS)
            await asyncio.sleep(0)  # connections close at the loop's next iteration

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if self._fault(request) == AWAY:
            cut(request)
        try:
            path, query = request.raw_path.partition("?")[0], dict(request.query)
            answer = await self._answer(Call(request.method, path, query, await request.read()), request)
        except FlyatcError as error:
            answer = MachinesApi.fault(error)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            answer = ApiResponse(500, msgspec.json.encode(Failure("".join(traceback.format_exception(error)))))
        return web.Response(status=answer.status, body=answer.body, content_type="application/json")


def cut(request: web.BaseRequest) -> None:
    """Cut the connection without a response. Raises ConnectionError."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError


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
        self.fault = ""  # see types.Faults.api
        self._server = _Server(self._route, lambda request: "" if _of_sim(request) else self.fault)

    async def open(self, one: socket.socket) -> None:
        await self._server.open(one)

    async def close(self) -> None:
        await self._server.close()

    async def _route(self, call: Call, request: web.BaseRequest) -> ApiResponse:
        if _of_sim(request):
            return await self._of_sim(call)
        if self.fault and self.fault != LOST:
            raise BadMessage(int(self.fault), "the simulator is set to fail")
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            raise BadMessage(401, "unauthenticated")
        answer = await self._api.answer(call)
        if self.fault == LOST and call.method != "GET":  # the action is done, the response lost
            cut(request)
        return answer

    async def _of_sim(self, call: Call) -> ApiResponse:
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


def _of_sim(request: web.BaseRequest) -> bool:
    return request.raw_path.startswith("/sim")


def _decoded(call: Call) -> Faults:
    found = ApiCall(call, "", "").body(Faults)
    if found.api not in ("", AWAY, LOST) and not (found.api.isdigit() and 400 <= int(found.api) < 600):
        raise BadMessage(400, f"api: {found.api!r} is neither away nor lost, nor a status of failure")
    return found


_SELF = re.compile(r"/v1/apps/(?P<app>[^/]+)/machines/(?P<id>[^/]+)/(stop|suspend)")


class LocalApis:
    """The ``/.fly/api`` sockets of all machines. ``fault``: as set for the Machines API, see types.Faults."""

    def __init__(self, api: MachinesApi, fault: Callable[[], str]) -> None:
        self._api, self._fault = api, fault
        # short: a socket's address is limited to 108 bytes (unix(7))
        self._folder = tempfile.TemporaryDirectory(prefix="flyatc-")
        self._servers: list[_Server] = []
        self._opening: list[asyncio.Task[None]] = []

    def open(self, app: str, machine: str) -> Path:
        """Open the machine's socket and return its path."""
        path = Path(self._folder.name) / machine
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind(str(path))
        one.setblocking(False)

        async def answer(call: Call, request: web.BaseRequest) -> ApiResponse:
            return await self._answer(call, (app, machine))

        server = _Server(answer, lambda _: self._fault())
        self._servers.append(server)
        self._opening.append(tasks.start(server.open(one), f"local API of {machine}"))
        return path

    async def close(self) -> None:
        await asyncio.gather(*self._opening)
        await asyncio.gather(*(server.close() for server in self._servers))
        self._folder.cleanup()

    async def _answer(self, call: Call, me: tuple[str, str]) -> ApiResponse:
        if fault := self._fault():
            raise BadMessage(int(fault), "the simulator is set to fail")
        match = _SELF.fullmatch(call.path)
        if match is None or call.method != "POST":
            raise BadMessage(404, "404 page not found")
        if (match["app"], match["id"]) != me:
            raise BadMessage(403, "a machine may stop and suspend itself only")
        return await self._api.answer(call)
