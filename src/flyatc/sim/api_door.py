"""The listener of the Machines API, and of what ``flyatc sim`` itself asks below ``/sim``."""

import asyncio
import traceback
from collections.abc import Callable

import msgspec

from flyatc.config.schema import Limits
from flyatc.control.call import LARGEST_BODY, Answer, Call, Exchange
from flyatc.kit.errors import FlyatcError
from flyatc.sim.api import MachinesApi
from flyatc.sim.machines import Machines
from flyatc.sim.shapes import Failure, Faults, Overview
from flyatc.wire import answer, server
from flyatc.wire.faults import BadMessage

AWAY, LOST = "away", "lost"


class ApiDoor:
    """``token``: what callers of the Machines API must show."""

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
        self.fault = ""  # see shapes.Faults.api
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

    async def of_fly(self, call: Call, request: server.Request) -> Answer:
        if self.fault and self.fault != LOST:
            raise BadMessage(int(self.fault), "the simulator was told to fail")
        if request.head.line(b"authorization") != f"Bearer {self._token}".encode():
            raise BadMessage(401, "unauthenticated")
        nonce = request.head.line(b"fly-machine-lease-nonce")
        told = await self._api.answer(call, None if nonce is None else nonce.decode("latin-1"))
        if self.fault == LOST and call.method != "GET":  # done, and nobody hears of it
            request.abort()
        return told

    async def of_sim(self, call: Call) -> Answer:
        match (call.method, call.path.split("/")[2:]):
            case ("GET", ["status"]):
                pass
            case ("POST", ["faults"]):
                self._break_things(_decoded(call))
            case ("POST", ["machines", word, verb]):
                one = self._machines.named(word)
                verbs = {"start": one.start, "stop": one.stop, "suspend": one.suspend, "kill": one.kill}
                if verb not in verbs:
                    raise BadMessage(404, f"a machine cannot be told to {verb}")
                await verbs[verb]()
            case _:
                raise BadMessage(404, f"there is nothing at {call.path}")
        return Answer(200, msgspec.json.encode(self._overview()))


class _Handler:
    """Of one call (control.call.Handler): it knows the request's headers."""

    def __init__(self, door: ApiDoor, request: server.Request, of_sim: bool) -> None:
        self._door, self._request, self._of_sim = door, request, of_sim

    async def answer(self, call: Call) -> Answer:
        return await (self._door.of_sim(call) if self._of_sim else self._door.of_fly(call, self._request))

    def fault(self, call: Call, error: Exception) -> Answer:
        if isinstance(error, FlyatcError):
            return MachinesApi.fault(error)
        return Answer(500, msgspec.json.encode(Failure("".join(traceback.format_exception(error)))))


def _decoded(call: Call) -> Faults:
    try:
        found = msgspec.json.decode(call.body, type=Faults)
    except msgspec.DecodeError as error:
        raise BadMessage(400, str(error)) from error
    if found.api not in ("", AWAY, LOST) and not (found.api.isdigit() and 400 <= int(found.api) < 600):
        raise BadMessage(400, f"api: {found.api!r} is neither away nor lost, nor a status of failure")
    return found


def _refuse(_: server.Connection, fault: BadMessage, came: bytes) -> bytes:
    return answer.build(fault.status, [], b"", head_only=False, close=True)
