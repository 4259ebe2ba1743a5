"""Simulated Machines API, with its rate limits, errors and exec.

https://fly.io/docs/machines/api/machines-resource/
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from flyatc.kit import tasks, units
from flyatc.kit.errors import FlyatcError
from flyatc.sim import types
from flyatc.sim.api_rules import Rates, Volume, Volumes
from flyatc.sim.machine import Machine, WrongState
from flyatc.sim.machines import Machines
from flyatc.wire.errors import BadMessage

S = TypeVar("S", bound=Struct)
LONGEST_WAIT = 60.0  # s
_MACHINES = re.compile(r"/v1/apps/(?P<app>[^/]+)/machines(?:/(?P<id>[^/]+)(?:/(?P<verb>[^/]+)(?:/(?P<key>[^/]+))?)?)?")
_VOLUMES = re.compile(r"/v1/apps/(?P<app>[^/]+)/volumes(?:/(?P<id>[^/]+))?")


class NoCapacity(FlyatcError):
    """422: the region has no capacity left."""


class ApiResponse(Struct, frozen=True):
    """``body``: JSON, or nothing."""

    status: int
    body: bytes


class Call(Struct, frozen=True):
    """A call as it came. ``path``: quoted."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


class ApiCall(Struct, frozen=True):
    """A call of the API for an app. ``key``: the last path segment, for metadata."""

    call: Call
    app: str
    key: str

    def body(self, kind: type[S]) -> S:
        """Decode the JSON body. Raises BadMessage."""
        try:
            return msgspec.json.decode(self.call.body or b"{}", type=kind)
        except msgspec.DecodeError as error:
            raise BadMessage(400, f"invalid JSON: {error}") from error


class MachinesApi:
    def __init__(self, machines: Machines, regions: tuple[str, ...]) -> None:
        """``regions``: the first is the default for new machines."""
        self._machines, self._regions = machines, regions
        self._rates, self._volumes = Rates(), Volumes()

    async def answer(self, call: Call) -> ApiResponse:
        """Handle a call. Raises FlyatcError, which ``fault`` converts into a response."""
        match = _VOLUMES.fullmatch(call.path)
        if match is not None:
            return self._of_volumes(ApiCall(call, match["app"], ""), match["id"])
        match = _MACHINES.fullmatch(call.path)
        if match is None:
            raise BadMessage(404, "404 page not found")
        request = ApiCall(call, match["app"], unquote(match["key"] or ""))
        if match["id"] is None:
            return await self._of_app(request)
        return await self._of_machine(request, match["id"], match["verb"] or "")

    @staticmethod
    def fault(error: FlyatcError) -> ApiResponse:
        status = 412 if isinstance(error, WrongState) else 422 if isinstance(error, NoCapacity) else 400
        if isinstance(error, BadMessage):
            status = error.status
        return _json(types.Failure(str(error)), status)

    def _limit(self, action: str, subject: str) -> None:
        if not self._rates.allows(action, subject, monotonic()):
            raise BadMessage(429, "rate limit exceeded")

    async def _of_app(self, request: ApiCall) -> ApiResponse:
        if request.call.method == "GET":
            self._limit("list", request.app)
            return _json([types.machine(one) for one in self._machines if _fits(one, request)])
        if request.call.method == "POST":
            self._limit("create", request.app)
            return self._create(request, request.body(types.CreateMachine))
        raise BadMessage(405, "method not allowed")

    def _create(self, request: ApiCall, wanted: types.CreateMachine) -> ApiResponse:
        try:
            config = msgspec.convert(wanted.config, types.Config)
        except msgspec.ValidationError as error:
            raise BadMessage(400, f"invalid config: {error}") from error
        if not config.image:
            raise BadMessage(400, "config.image is required")
        self._check_name(request.app, wanted.name)
        region = self._region(wanted.region)
        volumes = [self._free_volume(request.app, mount.volume, region) for mount in config.mounts or ()]
        metadata = config.metadata or {}
        one = self._machines.create(request.app, region, metadata, wanted.name, wanted.config)
        for volume in volumes:
            volume.attached_machine_id = one.record.id
        created = _json(types.machine(one))
        if not wanted.skip_launch:
            tasks.start(one.start(), f"launch of {one.record.name}")
        return created

    def _check_name(self, app: str, name: str) -> None:
        """Raise BadMessage if the name is taken, with the id, in Fly's wording."""
        for one in self._machines:
            if name and (one.record.app, one.record.name) == (app, name):
                taken = f'machine ID {one.record.id} already exists with name "{name}"'
                raise BadMessage(409, f"already_exists: unique machine name violation, {taken}")

    def _region(self, wanted: str) -> str:
        if wanted and wanted not in self._regions:
            raise NoCapacity(f"insufficient_capacity: no machines can be made in {wanted}")
        return wanted or self._regions[0]

    # --- volumes ---

    def _of_volumes(self, request: ApiCall, volume: str | None) -> ApiResponse:
        if (request.call.method, volume) == ("GET", None):
            self._limit("list volumes", request.app)
            return _json(self._volumes.of(request.app))
        if (request.call.method, volume) == ("POST", None):
            self._limit("create volume", request.app)
            wanted = request.body(types.CreateVolume)
            return _json(self._volumes.create(request.app, wanted.name, self._region(wanted.region), wanted.size_gb))
        found = self._volumes.find(request.app, volume or "")
        if found is None:
            raise BadMessage(404, "volume not found")
        if request.call.method == "DELETE":
            if found.attached_machine_id is not None:
                raise WrongState(f"volume is attached to machine {found.attached_machine_id}")
            self._volumes.remove(found.id)
        return _json(found)

    def _free_volume(self, app: str, volume: str, region: str) -> Volume:
        """Return an unattached volume; it can be attached to one machine: https://fly.io/docs/volumes/overview/."""
        found = self._volumes.find(app, volume)
        if found is None or found.region != region:
            raise BadMessage(400, f"volume {volume} does not exist in {region}")
        if found.attached_machine_id is not None:
            raise WrongState(f"volume {volume} is in use by machine {found.attached_machine_id}")
        return found

    async def _of_machine(self, request: ApiCall, machine: str, verb: str) -> ApiResponse:
        one = self._machines.get(machine)
        if one is None or one.record.app != request.app:
            raise BadMessage(404, "machine not found")
        action = verb or {"GET": "get", "DELETE": "delete"}.get(request.call.method, "")
        route = _ROUTES.get((request.call.method, verb))
        if route is None:
            raise BadMessage(404, "404 page not found")
        if action != "wait":
            self._limit(action if action == "get" else f"{request.call.method} {action}", machine)
        return await route(self, request, one)

    # --- one machine ---

    async def _get(self, request: ApiCall, one: Machine) -> ApiResponse:
        return _json(types.machine(one))

    async def _start(self, request: ApiCall, one: Machine) -> ApiResponse:
        return _json({"previous_state": await one.start(), "migrated": False, "new_host": False})

    async def _stop(self, request: ApiCall, one: Machine) -> ApiResponse:
        """Begin a stop and respond immediately; callers use ``wait`` to learn of its end."""
        wanted = request.body(types.StopMachine)
        try:
            number = signal.Signals[wanted.signal.upper()]
        except KeyError as error:
            raise BadMessage(400, f"unknown signal {wanted.signal}") from error
        if one.state not in ("started", "suspended", "stopped"):
            raise WrongState(f"unable to stop machine from current state: '{one.state}'")
        grace = wanted.timeout
        if isinstance(grace, str):
            try:
                grace = units.seconds(grace)
            except ValueError as error:
                raise BadMessage(400, f"invalid timeout: {error}") from error
        tasks.start(one.stop(number, grace), f"stop of {one.record.name}")
        return _json({"ok": True})

    async def _suspend(self, request: ApiCall, one: Machine) -> ApiResponse:
        """Respond immediately, like ``stop``: a machine that suspends itself could not read the response afterwards."""
        if one.state not in ("started", "suspended") or one.lost:
            raise WrongState(f"unable to suspend machine from current state: '{one.state}'")
        tasks.start(one.suspend(), f"suspend of {one.record.name}")
        return _json({"ok": True})

    async def _delete(self, request: ApiCall, one: Machine) -> ApiResponse:
        if one.state not in ("stopped", "created", "suspended") and request.call.query.get("force") != "true":
            raise WrongState(
                f"unable to destroy machine from current state: '{one.state}', not one of stopped, suspended"
            )
        await self._machines.destroy(one)
        self._volumes.detach(one.record.id)
        return _json({"ok": True})

    async def _wait(self, request: ApiCall, one: Machine) -> ApiResponse:
        query = request.call.query
        state, version = query.get("state", "started"), query.get("instance_id")
        if state not in ("started", "stopped", "suspended", "destroyed"):
            raise BadMessage(400, f"invalid state {state}")
        if state == "stopped" and version is None:
            raise BadMessage(400, "instance_id is required to wait for state stopped")
        try:
            seconds = min(LONGEST_WAIT, float(query.get("timeout", "60").removesuffix("s")))
        except ValueError as error:
            raise BadMessage(400, "timeout is a number of seconds") from error
        if await one.until(state, seconds):
            return _json({"ok": True})
        raise BadMessage(408, f"deadline_exceeded: machine is {one.state}, not {state}")

    async def _exec(self, request: ApiCall, one: Machine) -> ApiResponse:
        """Run a command. The status is 200 even if the command fails."""
        wanted = request.body(types.Exec)
        if not wanted.command:
            raise BadMessage(400, "command is required")
        if not one.reachable:
            raise WrongState(f"machine is not running, but {one.state}")
        return _json(await run(wanted.command, one.environ, wanted.timeout))

    async def _cordon(self, request: ApiCall, one: Machine) -> ApiResponse:
        one.cordoned = request.call.path.endswith("/cordon")
        return _json({"ok": True})

    async def _metadata(self, request: ApiCall, one: Machine) -> ApiResponse:
        """Read or change metadata: no new version, no restart."""
        metadata = one.record.metadata
        if request.call.method == "GET":
            return _json(metadata)
        if not request.key:
            raise BadMessage(404, "404 page not found")
        if request.call.method == "POST":
            metadata[request.key] = request.body(types.Value).value
        else:
            metadata.pop(request.key, None)
        self._machines.save()
        return ApiResponse(HTTPStatus.NO_CONTENT, b"")


Route = Callable[[MachinesApi, ApiCall, Machine], Awaitable[ApiResponse]]
_ROUTES: dict[tuple[str, str], Route] = {
    ("GET", ""): MachinesApi._get,
    ("DELETE", ""): MachinesApi._delete,
    ("POST", "start"): MachinesApi._start,
    ("POST", "stop"): MachinesApi._stop,
    ("POST", "suspend"): MachinesApi._suspend,
    ("GET", "wait"): MachinesApi._wait,
    ("POST", "exec"): MachinesApi._exec,
    ("POST", "cordon"): MachinesApi._cordon,
    ("POST", "uncordon"): MachinesApi._cordon,
    **{(method, "metadata"): MachinesApi._metadata for method in ("GET", "POST", "DELETE")},
}


def _fits(one: Machine, request: ApiCall) -> bool:
    """Return whether a machine, in any state, matches the filters ``region=`` and ``metadata.KEY=VALUE``."""
    if one.record.app != request.app:
        return False
    for name, value in request.call.query.items():
        if name == "region" and one.record.region != value:
            return False
        if name.startswith("metadata.") and one.record.metadata.get(name[9:]) != value:
            return False
    return True


def _json(value: Any, status: int = 200) -> ApiResponse:
    return ApiResponse(status, msgspec.json.encode(value))


LARGEST = 1 << 20  # bytes returned of each stream


class ExecResult(Struct):
    """Response of exec: 200 even if the command failed."""

    exit_code: int
    stdout: str
    stderr: str


async def run(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> ExecResult:
    """Run a command in a machine's environment. Raises FlyatcError if it cannot be run or does not end in time."""
    path = f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}"  # an image has flyatc in its PATH
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environ, "PATH": path},
            start_new_session=True,
        )
    except OSError as error:
        raise FlyatcError(f"failed to run command: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise FlyatcError(f"failed to run command: deadline_exceeded after {seconds:g}s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return ExecResult(process.returncode or 0, *(stream[:LARGEST].decode("utf-8", "replace") for stream in (out, err)))
