"""Routes of the control API, and the mapping of errors to statuses."""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from flyatc.config.errors import ConfigError
from flyatc.control import metrics
from flyatc.control.call import ApiResponse, Call
from flyatc.control.types import LONGEST_HOLD, Address, Cleared, Operations, Resumed, Step, Switched, Tenants
from flyatc.databases.decisions.version_choice import Choice, Moment, OrphanChoice
from flyatc.kit.errors import FlyatcError, SaveFailed
from flyatc.kit.types import Progress
from flyatc.observe.log import Entry, Journal, Log
from flyatc.tenants.errors import NoSuchTenant, Unavailable
from flyatc.wire.errors import BadMessage

S = TypeVar("S", bound=Struct)
Route = Callable[["Api", Call], Awaitable[ApiResponse | None]]

_STATUS: tuple[tuple[type[FlyatcError], int], ...] = (
    (NoSuchTenant, 404),
    (ConfigError, 422),
    (Unavailable, 503),
    (SaveFailed, 503),
    (FlyatcError, 409),
)


class Target(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of commands on a tenant. ``address``: ``bellevue/2025/winter``. ``database`` None: all. At most one of
    ``version``, ``at`` (Unix time) and ``orphan`` (its name); none: the current version."""

    address: str
    database: str | None = None
    version: str | None = None
    at: float | None = None
    orphan: str | None = None

    @property
    def choice(self) -> Choice:
        """The version to restore. Raises BadMessage if more than one is given."""
        if sum(one is not None for one in (self.version, self.at, self.orphan)) > 1:
            raise BadMessage(400, "version, at and orphan: one of them at most")
        if self.at is not None:
            return Moment(self.at)
        return self.version if self.orphan is None else OrphanChoice(self.orphan)


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of commands on a scope. ``address`` None: all tenants."""

    address: str | None = None


class MaintenanceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``message``: shown to clients; None: the default text."""

    closed: bool
    address: str | None = None
    message: str | None = None


class PauseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``limit``: longest wait of a request, in seconds."""

    limit: Annotated[float, Meta(gt=0, le=LONGEST_HOLD)]
    address: str | None = None


class ReleaseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``to``: the next holder, a machine of our app; None: any. ``remove``: no machine may hold the user."""

    user: str
    to: str | None = None
    remove: bool = False


class Failure(Struct, frozen=True):
    error: str


class Done(Struct, frozen=True):
    """Last line of backup and restore. ``notes``: sentences for the operator."""

    finished: bool = True
    notes: list[str] = []


class Api:
    """Dispatch of calls. ``admin`` False: only the routes for monitoring."""

    def __init__(self, operations: Operations, log: Log, *, admin: bool) -> None:
        self._operations, self._log = operations, log
        self._routes = PUBLIC | ADMIN if admin else PUBLIC

    async def answer(self, call: Call) -> ApiResponse | None:
        route = self._routes.get((call.method, call.path))
        if route is not None:
            return await route(self, call)
        if any(path == call.path for _, path in self._routes):
            raise BadMessage(405, f"{call.path} takes another method than {call.method}")
        raise BadMessage(404, f"there is nothing at {call.path}")

    def fault(self, call: Call, error: Exception) -> ApiResponse:
        if isinstance(error, BadMessage):
            return self.refusal(error)
        if isinstance(error, FlyatcError):
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            return _json(Failure(str(error).encode(errors="replace").decode()), status)  # file names may be no UTF-8
        where = f"{call.method} {call.path}"
        trace = "".join(traceback.format_exception(error))
        self._log.event("error", "an operator's call failed: a bug in flyatc", call=where, error=trace)
        return _json(Failure(f"a bug in flyatc: {type(error).__name__}; the daemon's log says more"), 500)

    @staticmethod
    def refusal(fault: BadMessage) -> ApiResponse:
        return _json(Failure(fault.reason), fault.status)

    # --- monitoring ---

    async def health(self, call: Call) -> ApiResponse:
        stopping = self._operations.stopping
        return _json({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    async def metrics(self, call: Call) -> ApiResponse:
        body = await metrics.scrape(self._operations.status(), self._operations.counters)
        return ApiResponse(200, body, metrics.KIND)

    # --- administration ---

    async def status(self, call: Call) -> ApiResponse:
        return _json(self._operations.status())

    async def route(self, call: Call) -> ApiResponse:
        return _json(self._operations.explain(_needed(call, "path")))

    async def address(self, call: Call) -> ApiResponse:
        return _json(Address(self._operations.address(_needed(call, "pasted"))))

    async def tenants(self, call: Call) -> ApiResponse:
        return _json(Tenants(await self._operations.with_data(call.query.get("user"))))

    async def start(self, call: Call) -> ApiResponse:
        await self._operations.start(_target(call).address)
        return _json(Done())

    async def stop(self, call: Call) -> ApiResponse:
        await self._operations.stop(_target(call).address)
        return _json(Done())

    async def restart(self, call: Call) -> ApiResponse:
        await self._operations.restart(_target(call).address)
        return _json(Done())

    async def release(self, call: Call) -> ApiResponse:
        body = _decoded(call, ReleaseRequest)
        await self._operations.release(body.user, body.to, remove=body.remove)
        return _json(Done())

    async def reload(self, call: Call) -> ApiResponse:
        return _json(await self._operations.reload())

    async def maintain(self, call: Call) -> ApiResponse:
        body = _decoded(call, MaintenanceRequest)
        return _json(Switched(await self._operations.maintain(body.address, body.message, closed=body.closed)))

    async def pause(self, call: Call) -> ApiResponse:
        body = _decoded(call, PauseRequest)
        return _json(await self._operations.pause(body.address, body.limit))

    async def resume(self, call: Call) -> ApiResponse:
        return _json(Resumed(await self._operations.resume(_decoded(call, Part).address)))

    async def clear_cache(self, call: Call) -> ApiResponse:
        return _json(Cleared(await self._operations.clear_cache(_decoded(call, Part).address)))

    async def history(self, call: Call) -> ApiResponse:
        database = call.query.get("database")
        return _json(await self._operations.history(_needed(call, "address"), database))

    async def backup(self, call: Call) -> None:
        target = _target(call)
        await self._operations.backup(target.address, target.database, _progress(call))
        await _finish(call)

    async def restore(self, call: Call) -> None:
        target = _target(call)
        notes = await self._operations.restore(target.address, target.database, target.choice, _progress(call))
        await _finish(call, notes)

    async def logs(self, call: Call) -> None:
        number = call.query.get("lines", "100")
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise BadMessage(400, f"lines={number[:20]!r} is not a number")
        follow = call.query.get("follow") == "1"
        await send_journal(self._operations.journal, call, call.query.get("address"), int(number), follow=follow)


PUBLIC: dict[tuple[str, str], Route] = {
    ("GET", "/healthz"): Api.health,
    ("GET", "/metrics"): Api.metrics,
}
ADMIN: dict[tuple[str, str], Route] = {
    ("GET", "/status"): Api.status,
    ("GET", "/route"): Api.route,
    ("GET", "/address"): Api.address,
    ("GET", "/tenants"): Api.tenants,
    ("GET", "/history"): Api.history,
    ("GET", "/logs"): Api.logs,
    ("POST", "/start"): Api.start,
    ("POST", "/stop"): Api.stop,
    ("POST", "/restart"): Api.restart,
    ("POST", "/release"): Api.release,
    ("POST", "/reload"): Api.reload,
    ("POST", "/maintenance"): Api.maintain,
    ("POST", "/pause"): Api.pause,
    ("POST", "/resume"): Api.resume,
    ("POST", "/cache/clear"): Api.clear_cache,
    ("POST", "/backup"): Api.backup,
    ("POST", "/restore"): Api.restore,
}


def _json(value: object, status: int = 200) -> ApiResponse:
    return ApiResponse(status, msgspec.json.encode(value))


def _target(call: Call) -> Target:
    return _decoded(call, Target)


def _decoded(call: Call, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(call.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(400, f"the body is not what {call.path} takes: {error}") from error


def _needed(call: Call, name: str) -> str:
    value = call.query.get(name)
    if value is None:
        raise BadMessage(400, f"{call.path} needs {name}=")
    return value


def _progress(call: Call) -> Progress:
    def progress(step: str, done: int, total: int) -> None:
        call.offer(msgspec.json.encode(Step(step, done, total)) + b"\n")

    return progress


async def _finish(call: Call, notes: Sequence[str] = ()) -> None:
    await call.write(msgspec.json.encode(Done(notes=list(notes))) + b"\n")


async def send_journal(journal: Journal, call: Call, address: str | None, lines: int, *, follow: bool) -> None:
    """Send the last ``lines`` as JSON lines; ``follow``: and all later ones, until the operator disconnects.

    A slow reader misses lines which the bounded journal has dropped."""
    entries = journal.since(0, address)
    number = journal.last
    await call.write(_joined(entries[max(0, len(entries) - lines) :]))
    while follow:
        if journal.last == number:
            await journal.more()
        entries = journal.since(number, address)
        number = journal.last
        if entries:
            await call.write(_joined(entries))


def _joined(entries: list[Entry]) -> bytes:
    return b"".join(line + b"\n" for _, _, line in entries)
