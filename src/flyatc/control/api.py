"""The routes of the control API: one table, which the server (``control.application``) and the OpenAPI document read.

A handler takes and returns structs. To add one: its request (``control.requests``) and its response
(``control.types``), a method of ``Operations``, a function here, a row of ``ROUTES``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from flyatc.config.errors import ConfigError
from flyatc.control import metrics
from flyatc.control.requests import (
    AddressQuery,
    BadRequest,
    HistoryQuery,
    LogsQuery,
    MaintenanceRequest,
    Nothing,
    Part,
    PauseRequest,
    ReleaseRequest,
    RouteQuery,
    Target,
    TenantQuery,
    TenantsQuery,
    UsageQuery,
)
from flyatc.control.types import (
    Address,
    Cleared,
    Drained,
    Explanation,
    History,
    Operations,
    Overview,
    Reloaded,
    Resumed,
    Step,
    Switched,
    TenantDetails,
    Tenants,
)
from flyatc.cost.usage import Usage
from flyatc.kit.errors import FlyatcError, SaveFailed
from flyatc.kit.types import Progress, silent
from flyatc.observe.log import Entry, Journal
from flyatc.tenants.errors import NoSuchTenant, Unavailable

Q = TypeVar("Q", bound=Struct)
R = TypeVar("R", bound=Struct)
KIND_OF_COPY = "application/vnd.sqlite3"
HEARTBEAT = 15.0  # s without a line, then a comment is sent: the client and what is between see that it goes on


# --- responses ---


class Health(Struct, frozen=True):
    status: Literal["ok", "stopping"]


class Failure(Struct, frozen=True):
    """The body of each response that is not 200, and the last line or event of a stream that has failed."""

    error: str


class Done(Struct, frozen=True):
    """The command is carried out. ``notes``: sentences for the operator."""

    finished: bool = True
    notes: list[str] = []


class Event(Struct, frozen=True):
    """An event of a stream: ``data`` without newlines. No data: a heartbeat."""

    data: bytes = b""
    id: str = ""


# --- routes ---


@dataclass(frozen=True, kw_only=True)
class _Route(Generic[Q, R]):
    """``takes``: the query of a GET, the JSON body of a POST; ``gives``: the response. ``public``: on server.control
    too."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    takes: type[Q]
    gives: type[R]
    public: bool = False


@dataclass(frozen=True, kw_only=True)
class Call(_Route[Q, R]):
    """Responds with one JSON object. ``status``: of HTTP."""

    handle: Callable[[Operations, Q], Awaitable[R]]
    status: Callable[[R], int] = lambda _: 200


@dataclass(frozen=True, kw_only=True)
class Work(_Route[Q, R]):
    """Responds with lines of JSON: a ``Step`` now and then, and ``gives`` at last."""

    handle: Callable[[Operations, Q, Progress], Awaitable[R]]


@dataclass(frozen=True, kw_only=True)
class Stream(_Route[Q, R]):
    """Responds with server-sent events, whose data is ``gives``. The last argument: the client's Last-Event-ID."""

    handle: Callable[[Operations, Q, str | None], AsyncIterator[list[Event]]]


@dataclass(frozen=True, kw_only=True)
class Text(_Route[Q, R]):
    """Responds with text of the media type ``kind``."""

    handle: Callable[[Operations, Q], Awaitable[bytes]]
    kind: str


@dataclass(frozen=True, kw_only=True)
class File(_Route[Q, R]):
    """Responds with a file of the media type ``kind``: with all of it, or the connection is cut."""

    handle: Callable[[Operations, Q], AbstractAsyncContextManager[Path]]
    kind: str


Route = File[Any, Any] | Call[Any, Any] | Work[Any, Any] | Stream[Any, Any] | Text[Any, Any]


class LogLine(Struct, frozen=True):
    """A line of the log; it has more fields, see docs/operations.md."""

    time: str
    level: str | None = None
    msg: str | None = None
    tenant: str | None = None


async def health(operations: Operations, _: Nothing) -> Health:
    return Health("stopping" if operations.stopping else "ok")


async def scrape(operations: Operations, _: Nothing) -> bytes:
    return await metrics.scrape(operations.status(), operations.counters)


async def status(operations: Operations, _: Nothing) -> Overview:
    return operations.status()


async def explain(operations: Operations, query: RouteQuery) -> Explanation:
    return operations.explain(query.path)


async def address(operations: Operations, query: AddressQuery) -> Address:
    return Address(operations.address(query.pasted))


async def tenants(operations: Operations, query: TenantsQuery) -> Tenants:
    return Tenants(await operations.with_data(query.user))


async def tenant(operations: Operations, query: TenantQuery) -> TenantDetails:
    return operations.tenant(query.address)


async def history(operations: Operations, query: HistoryQuery) -> History:
    return await operations.history(query.address, query.database)


def copy(operations: Operations, query: Target) -> AbstractAsyncContextManager[Path]:
    if query.database is None:
        raise BadRequest("database: name the one to be copied")
    return operations.copy(query.address, query.database, query.choice, silent)


async def usage(operations: Operations, query: UsageQuery) -> Usage:
    return await operations.usage(query.days)


async def start(operations: Operations, body: Target) -> Done:
    await operations.start(body.address)
    return Done()


async def stop(operations: Operations, body: Target) -> Done:
    await operations.stop(body.address)
    return Done()


async def restart(operations: Operations, body: Target) -> Done:
    await operations.restart(body.address)
    return Done()


async def release(operations: Operations, body: ReleaseRequest) -> Done:
    await operations.release(body.user, body.to, remove=body.remove)
    return Done()


async def reload(operations: Operations, _: Nothing) -> Reloaded:
    return await operations.reload()


async def maintain(operations: Operations, body: MaintenanceRequest) -> Switched:
    return Switched(await operations.maintain(body.address, body.message, closed=body.closed))


async def pause(operations: Operations, body: PauseRequest) -> Drained:
    return await operations.pause(body.address, body.limit)


async def resume(operations: Operations, body: Part) -> Resumed:
    return Resumed(await operations.resume(body.address))


async def clear_cache(operations: Operations, body: Part) -> Cleared:
    return Cleared(await operations.clear_cache(body.address))


async def backup(operations: Operations, body: Target, progress: Progress) -> Done:
    await operations.backup(body.address, body.database, progress)
    return Done()


async def restore(operations: Operations, body: Target, progress: Progress) -> Done:
    return Done(notes=list(await operations.restore(body.address, body.database, body.choice, progress)))


async def logs(operations: Operations, query: LogsQuery, after: str | None) -> AsyncIterator[list[Event]]:
    """Yield the last lines, or all after the event ``after``; with ``follow`` all later ones, until the client
    disconnects. A slow reader misses lines which the bounded journal has dropped."""
    journal, seen = operations.journal, _number(operations.journal, after)
    entries, number = journal.since(seen or 0, query.address), journal.last
    yield _events(journal, entries if seen is not None else entries[max(0, len(entries) - query.lines) :])
    while query.follow:
        if journal.last == number:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await journal.more()
        entries, number = journal.since(number, query.address), journal.last
        yield _events(journal, entries) or [Event()]


def _events(journal: Journal, entries: list[Entry]) -> list[Event]:
    return [Event(line, f"{journal.name}-{number}") for number, _, line in entries]


def _number(journal: Journal, event: str | None) -> int | None:
    """The number of the entry with this event id; None: it is not of this journal."""
    name, _, number = (event or "").rpartition("-")
    if name != journal.name or not (number.isascii() and number.isdigit() and len(number) < 20):
        return None
    return int(number)


ROUTES: tuple[Route, ...] = (
    Call(method="GET", path="/healthz", summary="Say whether the daemon serves (200) or shuts down (503).",
         takes=Nothing, gives=Health, handle=health, public=True,
         status=lambda found: 200 if found.status == "ok" else 503),
    Text(method="GET", path="/metrics", summary="Metrics in Prometheus' text format.",
         takes=Nothing, gives=Nothing, handle=scrape, kind=metrics.KIND, public=True),
    Call(method="GET", path="/status", summary="The daemon, and every tenant.",
         takes=Nothing, gives=Overview, handle=status),
    Call(method="GET", path="/route", summary="Show which tenant a path belongs to, where it is served, and why.",
         takes=RouteQuery, gives=Explanation, handle=explain),
    Call(method="GET", path="/address", summary="The address of a tenant or user that a pasted text means.",
         takes=AddressQuery, gives=Address, handle=address),
    Call(method="GET", path="/tenants", summary="The tenants of a user, or all, that have data, here or in the store.",
         takes=TenantsQuery, gives=Tenants, handle=tenants),
    Call(method="GET", path="/tenant", summary="One tenant: its status, its databases here, and its last day.",
         takes=TenantQuery, gives=TenantDetails, handle=tenant),
    Call(method="GET", path="/history", summary="The kept versions of a tenant's databases.",
         takes=HistoryQuery, gives=History, handle=history),
    File(method="GET", path="/copy", summary="A copy of a database: of its newest content, or of a version.",
         takes=Target, gives=Nothing, handle=copy, kind=KIND_OF_COPY),
    Call(method="GET", path="/usage", summary="What each user of this machine uses of it and of the store.",
         takes=UsageQuery, gives=Usage, handle=usage),
    Stream(method="GET", path="/logs", summary="The last lines of the log, and those that come.",
           takes=LogsQuery, gives=LogLine, handle=logs),
    Call(method="POST", path="/start", summary="Start a tenant, or all of a user.",
         takes=Target, gives=Done, handle=start),
    Call(method="POST", path="/stop", summary="Save and stop a tenant, or all of a user.",
         takes=Target, gives=Done, handle=stop),
    Call(method="POST", path="/restart", summary="Stop and start a tenant, or all of a user.",
         takes=Target, gives=Done, handle=restart),
    Call(method="POST", path="/release", summary="Save and stop a user, and release the lease.",
         takes=ReleaseRequest, gives=Done, handle=release),
    Call(method="POST", path="/reload", summary="Read tenants.yaml again.",
         takes=Nothing, gives=Reloaded, handle=reload),
    Call(method="POST", path="/maintenance", summary="Close a scope for maintenance, or open it again.",
         takes=MaintenanceRequest, gives=Switched, handle=maintain),
    Call(method="POST", path="/pause", summary="Hold the requests of a scope.",
         takes=PauseRequest, gives=Drained, handle=pause),
    Call(method="POST", path="/resume", summary="End a pause.",
         takes=Part, gives=Resumed, handle=resume),
    Call(method="POST", path="/cache/clear", summary="Drop cached responses of a scope.",
         takes=Part, gives=Cleared, handle=clear_cache),
    Work(method="POST", path="/backup", summary="Save a tenant's databases.",
         takes=Target, gives=Done, handle=backup),
    Work(method="POST", path="/restore", summary="Replace a tenant's databases by a version of the store.",
         takes=Target, gives=Done, handle=restore),
)  # fmt: skip


# --- errors ---


_STATUS: tuple[tuple[type[FlyatcError], int], ...] = (
    (NoSuchTenant, 404),
    (ConfigError, 422),
    (Unavailable, 503),
    (SaveFailed, 503),
    (FlyatcError, 409),
)


def status_of(error: FlyatcError) -> int:
    if isinstance(error, BadRequest):
        return error.status
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def step(name: str, done: int, total: int) -> bytes:
    """A line of progress."""
    return msgspec.json.encode(Step(name, done, total))
