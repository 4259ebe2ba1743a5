"""Shared by all pages of the dashboard: the daemon's operations, settings, jobs, audit lines."""

import asyncio
import hmac
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import web

from flyatc.admin.config_file import ConfigFile
from flyatc.config.schema import Config, Dashboard
from flyatc.control.types import Operations, Overview
from flyatc.dashboard.jobs import Jobs
from flyatc.dashboard.sessions import Session, Sessions, derive
from flyatc.edge.fly_replay import Places
from flyatc.edge.responses import REPLAYED
from flyatc.fly.environment import Machine
from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log
from flyatc.process.child_records import Records
from flyatc.routing import placement_rules, replay
from flyatc.routing.replay import Replays

if TYPE_CHECKING:
    from flyatc.dashboard.machines import Machines

CLIENT = "Flyatc-Client"  # header: the client's address, as the edge knows it
PORTS = "Flyatc-Ports"  # header: the client's port, and ours
_KEY_FILE = "dashboard.key"
_NO_USER = "-"  # of a replay to a machine


class Site:
    """``config``: returns the present configuration; ``machine``: this one, on Fly; ``placement``: finds the machine of
    a user, on Fly; ``replays``: writes headers for Fly Proxy, on Fly; ``machines``: all of the app; ``records``: of
    child processes, as a verification starts some; ``overview``: returns the status of the tenants that were asked for
    (Operations.status), of a moment ago, or as it is now if its argument is True."""

    def __init__(
        self,
        operations: Operations,
        config: Callable[[], Config],
        log: Log,
        *,
        environ: Mapping[str, str],
        machine: Machine | None = None,
        placement: Places | None = None,
    ) -> None:
        self.operations, self.config, self.log = operations, config, log
        self.environ, self.machine, self.placement = environ, machine, placement
        self.replays: Replays | None = None
        self.machines: Machines | None = None
        self.store: ObjectStore | None = None
        self.records: Records | None = None
        self.overview: Callable[[bool], Overview] = lambda _: operations.status(seen=True)
        self.jobs = Jobs("here" if machine is None else machine.id, log)
        self.config_file = ConfigFile(config().path, Path(config().server.data), environ)
        self._sessions: Sessions | None = None
        self._password: str | None = None  # the one that ``_sessions`` are of
        self._changing = asyncio.Lock()

    @property
    def settings(self) -> Dashboard:
        return self.config().dashboard or Dashboard()

    @property
    def insecure(self) -> bool:
        """True if there is no password: by flyatc serve --insecure."""
        return self.settings.password is None

    def url(self, name: str = "", **query: str) -> str:
        """Return the path of a page: ``url("tenant", address="ann/one")``."""
        return f"{self.settings.path}/{name}" + (f"?{urlencode(query)}" if query else "")

    def inside(self, given: str) -> str | None:
        """Return a path that a client has given, None if it is none of the dashboard."""
        plain = given.isascii() and given.isprintable() and "\\" not in given and ".." not in given
        return given if plain and given.startswith(self.url()) else None

    def audit(self, request: web.Request, event: str, **fields: Any) -> None:
        """Log a change that the operator makes. ``event``: "tenant stopped"."""
        self.log.event("info", f"dashboard: {event}", operator=address_of(request), **fields)

    async def sessions(self) -> Sessions:
        """Return those of the present password; another password ends all sessions."""
        async with self._changing:
            password = self.settings.password
            if self._sessions is None or password != self._password:
                self._sessions = Sessions(await asyncio.to_thread(self._key, password))
                self._password = password
            return self._sessions

    def _key(self, password: str | None) -> bytes:
        """Return the key of the sessions. A hash may be known to those who can read tenants.yaml: then a secret is
        needed as well: that of all machines, or one of this machine. Blocking. Raises OSError."""
        if password is None:
            return os.urandom(32)
        secret = replay.secret(self.environ) or b""
        if password.startswith("$") and not secret:
            secret = _kept_secret(Path(self.config().server.data) / ".flyatc" / _KEY_FILE)
        return derive(password, secret)


def _kept_secret(file: Path) -> bytes:
    try:
        found = file.read_bytes()
    except FileNotFoundError:
        found = b""
    if len(found) != 32:
        found = os.urandom(32)
        durable_files.write(file, found)
    return found


SITE: web.AppKey[Site] = web.AppKey("site", Site)
SESSION, FORM = "session", "form"  # of a request: see application


def site_of(request: web.Request) -> Site:
    return request.app[SITE]


def session_of(request: web.Request) -> Session:
    """Return the session of a request that has passed the login."""
    session = request[SESSION]
    assert isinstance(session, Session)
    return session


def address_of(request: web.Request) -> str:
    """Return the client's address."""
    return request.headers.get(CLIENT, "")


def agent_of(request: web.Request) -> str:
    return request.headers.get("User-Agent", "")[:512]


def equal(one: str, other: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


async def elsewhere(site: Site, request: web.Request, address: str) -> web.Response | None:
    """Return the response that has Fly Proxy send a request about a tenant or a user to the user's machine; None: it is
    this one, or no machine is known. As a client's request would, it may make the machine of a newcomer. Raises
    FlyatcError: the machine is known, and cannot be reached."""
    user = address.partition("/")[0]
    if site.placement is None or site.replays is None or _source(site.replays, request, user).sent:
        return None
    place = await site.placement.find(user)
    if not isinstance(place, placement_rules.There):
        return None
    unreachable = site.placement.unreachable(user, place.target)
    response = _replay(site.replays, request, place.target, user, f". {place.explanation}", unreachable=unreachable)
    site.placement.sent(user, place.target)
    return response


def to_machine(site: Site, request: web.Request, machine: str) -> web.Response | None:
    """Return the response that has Fly Proxy send a request to this machine of the app; None: it is this one. Raises
    FlyatcError as ``elsewhere``."""
    if site.machine is None or site.replays is None or machine == site.machine.id:
        return None
    if _source(site.replays, request, _NO_USER).sent or (to := replay.target(f"{site.machine.app}/{machine}")) is None:
        return None
    return _replay(site.replays, request, to, _NO_USER, "")


def _replay(
    replays: Replays, request: web.Request, to: replay.Target, user: str, more: str, *, unreachable: bool = False
) -> web.Response:
    source, failed = _source(replays, request, user), replay.failed(_values(request, "Fly-Replay-Failed"))
    if (why := placement_rules.refusal(to, replays.me, source, failed)) is not None:
        raise FlyatcError(f"{why}{more}")
    header = replays.header(to, user, source.hops, time(), unreachable=unreachable)
    return web.Response(status=REPLAYED, headers={"Fly-Replay": header.decode()}, text="Another machine serves this.\n")


def _source(replays: Replays, request: web.Request, user: str) -> replay.Source:
    return replays.source(_values(request, "Fly-Replay-Src"), user, time())


def _values(request: web.Request, header: str) -> list[bytes]:
    return [value.encode(errors="replace") for value in request.headers.getall(header, [])]
