"""A warm tenant in one process: real connection, handler, cache, fleet, lease, session, gateway and log, with delivery
as it is installed. Only the app, its databases, the store and the transports are fakes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import cast

from fakes.ownership_store import FakeStore, Link
from fakes.request_path import Transport, deliver
from fakes.stage import FakeDatabases, FakeDataWatch
from flyatc.config.load import load
from flyatc.config.schema import Config, Tenant
from flyatc.daemon.user_placement import UserPlacement
from flyatc.delivery.cache.cache import Cache
from flyatc.edge import access_log, fly_replay, handler, maintenance, upstream
from flyatc.fly import dns_answers
from flyatc.fly.environment import Machine
from flyatc.fly.user_lookup import UserLookup
from flyatc.kit import tasks
from flyatc.kit.types import Effort, Work
from flyatc.observe.log import Log
from flyatc.ownership.lease import HeldLease
from flyatc.ownership.lease_manager import LeaseManager
from flyatc.ownership.record import Me, Owner, Process
from flyatc.ownership.rules import Terms
from flyatc.routing.replay import Replays
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.interfaces import Tools, Watched
from flyatc.wire import connection, server, upstream_connection

CONFIG = """
server: {listen: "127.0.0.1:0", data: data}
storage: {mode: none}
app:
  command: ["true"]
users:
  u:
  bare: {delivery: &none {compression: {enabled: false}, cache: {enabled: false}, sendfile: {enabled: false}}}
%sdashboard: {password: "${DASHBOARD_PASSWORD}"}
"""
ELSEWHERE = """  far:
  far_bare: {delivery: *none}
  pinned: {machine: 3d8dd15c1ed778}
  pinned_bare: {machine: 3d8dd15c1ed778, delivery: *none}
"""
REQUEST = b"""GET /%b/page HTTP/1.1
Host: 127.0.0.1:8080
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8
Accept-Language: en-GB,en;q=0.9,de;q=0.7
Accept-Encoding: gzip, deflate, br, zstd
Referer: http://localhost/bench/somewhere/else?page=2
Cookie: session=nW3vTq0yJp8aZ1cXeR5uLk7mB2dG9hF4sQ6oI0wEtYvNzKj; theme=dark
Cache-Control: max-age=0
Sec-Fetch-Dest: document
Sec-Fetch-Mode: navigate
Sec-Fetch-Site: same-origin
Upgrade-Insecure-Requests: 1

""".replace(b"\n", b"\r\n")
RESPONSE = (
    b"""HTTP/1.1 200 OK
Server: nginx/1.22.1
Date: Mon, 30 Nov 2026 10:00:00 GMT
Content-Type: application/json
Content-Length: 200
Connection: keep-alive
Cache-Control: private, max-age=0, must-revalidate
X-Runtime: 0.004217
Set-Cookie: session=nW3vTq0yJp8aZ1cXeR5uLk7mB2dG9hF4sQ6oI0wEtYvNzKj; path=/; HttpOnly; SameSite=Lax

""".replace(b"\n", b"\r\n")
    + b"x" * 200
)


class Sink(Transport):
    """Keeps only what was written last."""

    last = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.last = bytes(data)


class _Child:
    """A running app."""

    pid = port = 1
    exit, stranger, probe, isolation = None, None, None, "none"

    def __init__(self) -> None:
        self.exited = asyncio.Event()

    def signal(self, number: int) -> None:
        """It has none."""

    async def effort(self) -> Effort:
        return Effort(0.0, wants=True)

    async def work(self, *, oldest: float, youngest: float) -> Work:
        raise AssertionError("it is never idle for so long")

    async def ready(self) -> None:
        """It is."""


class WarmPath:
    """``u``: delivery as it is installed; ``bare``: without any."""

    elsewhere = ""  # more users

    def __init__(self, folder: Path) -> None:
        file = folder / "tenants.yaml"
        file.write_text(CONFIG % self.elsewhere)
        config = load(file, {"DASHBOARD_PASSWORD": "correct horse battery"})
        self._null = Path("/dev/null").open("wb")  # noqa: SIM115 - closed by close
        self.log = Log(self._null)
        me = Me("m1", "app", "waw", "m1.1", Process(kernel="k", pid=2**22 + 1, started=1), frozenset())
        self.leases = LeaseManager(Link(FakeStore()), me, Terms(), self.log)
        self.lease: HeldLease | None = None
        tools = Tools(self._owned, self._restored, self._watched, self._running, self._gateway, self._prepared)
        self.fleet = Fleet(config, tools, self.log)
        self.records = access_log.Recorder(self.log, lines=True)
        self.cache, self.maintenance = Cache(1 << 20, 1 << 18), maintenance.Maintenance(folder, self.log, 10)
        replayer = self._replayer(config)
        self.handler = handler.Handler(config, self.fleet, self.records, self.cache, self.maintenance, replayer)
        wire = server.Server(self.handler.handle, self.handler.refuse, config.limits, self.handler.exchange)
        self._client, self.client = connection.Connection(wire), Sink()
        self._client.connection_made(self.client)
        self._app: upstream_connection.AppConnection | None = None
        self.app = Sink()
        self._sweeper: asyncio.Task[None] | None = None

    def _replayer(self, config: Config) -> fly_replay.FlyReplay | None:
        """None: not on Fly."""

    @contextlib.asynccontextmanager
    async def _watched(self, spec: Tenant, refuse: Callable[[str], None]) -> AsyncIterator[FakeDataWatch]:
        yield FakeDataWatch(refuse)

    async def _prepared(self, spec: Tenant, hurry: Callable[[], bool], watched: Watched) -> None:
        raise AssertionError("its app has no before_start")

    @contextlib.asynccontextmanager
    async def _owned(self, spec: Tenant) -> AsyncIterator[HeldLease]:
        async with self.leases.hold(spec.user) as self.lease:
            yield self.lease

    @contextlib.asynccontextmanager
    async def _restored(self, spec: Tenant, owned: HeldLease) -> AsyncIterator[FakeDatabases]:
        yield FakeDatabases({})

    @contextlib.asynccontextmanager
    async def _running(self, spec: Tenant, hurry: Callable[[], bool]) -> AsyncIterator[_Child]:
        yield _Child()

    def _gateway(self, spec: Tenant, child: _Child, may_answer: Callable[[], bool]) -> upstream.Gateway:
        return upstream.Gateway("127.0.0.1", 1, may_answer)

    async def start(self, user: str) -> None:
        """Start the tenant's app, and open a connection to it."""
        if self._sweeper is None:
            self._sweeper = tasks.start(self.fleet.sweep(), "sweep")
        await self.fleet.start(user)
        tenant = self.fleet.find(user, "")
        assert tenant is not None
        through = tenant.peek()
        assert isinstance(through, upstream.Gateway)
        self._app = upstream_connection.AppConnection(through.pool)
        self._app.connection_made(self.app)
        self._app.since = monotonic()
        through.pool.take_back(self._app)

    def request(self, head: bytes) -> None:
        """Deliver the head of a request from the client."""
        self._client.data_received(head)

    def respond(self, response: bytes) -> None:
        """Deliver the app's response."""
        assert self._app is not None
        deliver(self._app, response)

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.fleet.hurry()
        await self.fleet.close(10)
        await self.leases.close()
        self.log.close()
        self._null.close()


class ReplayPath(WarmPath):
    """The same on Fly, where another machine serves the users of ELSEWHERE: by the file, or by the DNS."""

    elsewhere = ELSEWHERE

    def _replayer(self, config: Config) -> fly_replay.FlyReplay:
        me, names = Machine("app", "148e21dad76789", "waw"), cast(UserLookup, _Names())
        self.placement = UserPlacement(config, me, _Owners(self.leases), names)
        return fly_replay.FlyReplay(config, Replays(me, b"secret", 30.0), self.placement, "for the test")


class _Owners:
    """No user has a record; see user_placement.Owners."""

    def __init__(self, leases: LeaseManager) -> None:
        self.held = leases.holds

    async def look(self, user: str) -> Owner | None:
        return None


class _Names:
    """A DNS which knows each user's machine."""

    async def machine_of(self, user: str) -> dns_answers.Found:
        now = asyncio.get_running_loop().time()
        return dns_answers.Found("e28650ce7d1d68", f"{user} is served by machine e28650ce7d1d68 in iad", now)
