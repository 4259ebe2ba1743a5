"""The path of a request through one process: real connection, handler, forwarding, parsing and log, on transports that
lead nowhere. For work that is counted or timed without a network."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from flyatc.config.load import load
from flyatc.config.schema import Config, Tenant
from flyatc.delivery.cache.cache import Cache
from flyatc.edge import access_log, fly_replay, handler, maintenance, upstream
from flyatc.fly.environment import Machine
from flyatc.observe.log import Log
from flyatc.routing import placement_rules, replay
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.in_flight import InFlight
from flyatc.wire import connection, server, upstream_connection, upstream_pool

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
STORED = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\nETag: "a"\r\nVary: Cookie\r\n\r\nok'
CONFIG = """
server: {listen: "127.0.0.1:0", data: data, health: /up}
storage: {mode: none}
limits: {request_header: %d}
app:
  command: ["true"]
  delivery:
    static: [{path: /assets, folder: assets}]
    cache: {enabled: true}
    sendfile: {enabled: true}
users:
  u: {tenants: ["", winter, winter/2025]}
"""


def deliver(app: upstream_connection.AppConnection, data: bytes) -> None:
    """Have the connection read ``data``, as the loop does."""
    while data:
        room = app.get_buffer(-1)
        octets = min(len(data), len(room))
        room[:octets] = data[:octets]
        app.buffer_updated(octets)
        data = data[octets:]


class Transport(asyncio.Transport):
    """Takes all that is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5)})
        self.written: list[bytes] = []
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True


class _Pool(upstream_pool.Pool):
    """Always has a connection, a new one."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 1)
        self.app: upstream_connection.AppConnection | None = None
        self.transport = Transport()

    def idle(self, *, repeatable: bool) -> upstream_connection.AppConnection | None:
        self.app, self.transport = upstream_connection.AppConnection(self), Transport()
        self.app.connection_made(self.transport)
        return self.app


class _Tenant:
    def __init__(self, spec: Tenant, through: upstream.Gateway, *, warm: bool) -> None:
        self.spec, self.gateway, self._warm = spec, through, warm
        self.removed, self.listed = False, True
        self.requests = InFlight()

    def warm(self) -> "_Tenant | None":
        return self if self._warm else None

    def peek(self) -> upstream.Gateway | None:
        return self.gateway if self._warm else None


class _Fleet:
    def __init__(self, config: Config, through: upstream.Gateway, *, warm: bool) -> None:
        self._tenants = {(t.user, t.name): _Tenant(t, through, warm=warm) for t in config.tenants.values()}

    def find(self, user: str, name: str) -> _Tenant | None:
        return self._tenants.get((user, name))


class _Elsewhere:
    """Another machine serves every user (replay.Places)."""

    def __init__(self, me: Machine) -> None:
        self._place = placement_rules.There(replay.Target(me.app, id="0123456789abcd"), "for the test")

    def known(self, user: str) -> placement_rules.Place | None:
        return self._place

    async def find(self, user: str) -> placement_rules.Place:
        return self._place

    def sent(self, user: str, to: replay.Target) -> None:
        pass

    def failed(self, user: str, after: float) -> None:
        pass

    def unreachable(self, user: str, to: replay.Target) -> bool:
        return False

    def learn(self, user: str, place: placement_rules.There) -> None:
        pass


class RequestPath:
    """``elsewhere``: no app is warm, and Fly Proxy is to replay each request; ``header``: limits.request_header."""

    def __init__(
        self, folder: Path, *, elsewhere: bool = False, header: int = 65536, environ: Mapping[str, str] | None = None
    ) -> None:
        (folder / "assets").mkdir(exist_ok=True)
        file = folder / "tenants.yaml"
        file.write_text(CONFIG % header)
        self.config = load(file, environ or {})
        self._null = Path("/dev/null").open("wb")  # noqa: SIM115 - closed by close
        self.log = Log(self._null)
        self.records = access_log.Recorder(self.log, lines=True)
        self._pool, sign = _Pool(), None
        self.gateway = upstream.Gateway("127.0.0.1", 1)
        self.gateway.pool = self._pool
        if elsewhere:
            me = Machine(app="test", id="0123456789abce", region="ord", address=None)
            sign = fly_replay.FlyReplay(self.config, replay.Replays(me, b"secret", 5.0), _Elsewhere(me), "not here")
        fleet = cast(Fleet, _Fleet(self.config, self.gateway, warm=not elsewhere))
        self.cache, shut = Cache(1 << 20, 1 << 18), maintenance.Maintenance(folder, self.log, 10)
        self.handler = handler.Handler(self.config, fleet, self.records, self.cache, shut, sign)
        self._server = server.Server(
            self.handler.handle, self.handler.refuse, self.config.limits, self.handler.exchange
        )

    @property
    def app(self) -> upstream_connection.AppConnection | None:
        """The connection over which the app was asked last."""
        return self._pool.app

    def connect(self) -> tuple[connection.Connection, Transport]:
        """A client's connection, and what is written to it."""
        visitor, transport = connection.Connection(self._server), Transport()
        visitor.connection_made(transport)
        return visitor, transport

    def request(self, head: bytes, response: bytes = RESPONSE) -> tuple[bytes, bytes]:
        """The head of a request, and what the app answers: what the app has read, and what the client has."""
        self._pool.app, self._pool.transport = None, Transport()
        visitor, transport = self.connect()
        visitor.data_received(head)
        app = self._pool.app
        if app is not None and not transport.written:
            deliver(app, response)
        visitor.connection_lost(None)
        seen = b"".join(self._pool.transport.written), b"".join(transport.written)
        self._pool.transport.written.clear()  # the pool keeps the connection
        return seen

    def close(self) -> None:
        self.log.close()
        self._null.close()
