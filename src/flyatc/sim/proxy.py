"""Simulated Fly Proxy: sends each request to a machine, and to another one if the response is a replay.

https://fly.io/docs/networking/dynamic-request-routing/. One coroutine handles a request from beginning to end.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from time import monotonic, time

from msgspec import Struct, structs

from flyatc.config.schema import Limits
from flyatc.kit import tasks
from flyatc.sim import proxy_rules, replay
from flyatc.sim.machine import Machine
from flyatc.sim.proxy_leg import Body, Connector, Leg, NoAnswer, Reached, Unreached
from flyatc.sim.proxy_rules import Cache
from flyatc.sim.replay import BadReplay, Replay, TooLarge
from flyatc.wire import head, response, server
from flyatc.wire.errors import BadMessage
from flyatc.wire.tunnel import Tunnel

MOST_REPLAYS = 10  # of one request: PA02
CACHED = "fly-replay-cache-status"


class Hop(Struct):
    """The next target of a request. ``adds``: headers for this hop; ``origin``: the machine that replayed it."""

    want: Replay
    adds: dict[str, str]
    origin: Machine | None = None
    final: bool = False  # reached by a fallback: it may not be replayed again


class Proxy:
    """The proxy. ``edge``: the region where requests arrive; ``app``: the app requested; ``log``: called with a line
    for each finished request, with its hops."""

    def __init__(self, connector: Connector, app: str, edge: str, log: Callable[[str], None]) -> None:
        self._connector, self._app, self.edge, self.log = connector, app, edge, log
        self._cache = Cache()
        self._requests: set[asyncio.Task[None]] = set()
        self._tunnels: set[Tunnel] = set()
        self.wire = server.Server(self._handle, _refuse, Limits(idle_timeout=0, write_timeout=0, body_timeout=0))
        self.port = 0

    async def close(self) -> None:
        self.wire.close_idle()
        for tunnel in list(self._tunnels):
            tunnel.cut()
        for task in list(self._requests):
            task.cancel()
        if self._requests:
            await asyncio.wait(self._requests)
        self.wire.abort()

    def _handle(self, request: server.Request) -> None:
        task = tasks.start(_ProxiedRequest(self, request).run(), "request")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    # --- for a request ---

    async def reach(self, hop: Hop, note: Callable[[str], None]) -> Reached | Unreached:
        return await self._connector.reach(hop.want, hop.origin.record.id if hop.origin else None, note)

    def first_hop(self, request: head.RequestHead) -> Hop:
        """Return the first hop, from the client's headers and the replay cache."""
        prefer = _text(request, b"fly-prefer-instance-id")
        force = _text(request, b"fly-force-instance-id")
        region = _text(request, b"fly-force-region") or ",".join(
            filter(None, [_text(request, b"fly-prefer-region"), "any"])
        )
        if force or prefer:
            return Hop(Replay(instance=force, prefer_instance=prefer, region=region, app=self._app), {})
        found = self._cache.find(_host(request), request.path.decode("latin-1"), monotonic())
        if found is None:
            return Hop(Replay(region=region, app=self._app), {})
        if found.allow_bypass and _text(request, b"fly-replay-cache-control") == "skip":
            return Hop(Replay(region=region, app=self._app), {CACHED: "bypass"})
        return Hop(found.target, {CACHED: "hit"})

    def next_hop(self, request: head.RequestHead, found: Replay, sender: Machine) -> Hop:
        """Return the hop that a replay from machine ``sender`` requests. Raises BadReplay."""
        want = structs.replace(found, app=found.app or sender.record.app)
        own = sender.record
        source = replay.source(own.id, own.region, int(time() * 1e6), found.state)
        host, path = _host(request), request.path.decode("latin-1")
        if found.cache is not None and found.cache.invalidate:
            self._cache.forget(host, path, want.app)
        elif found.cache is not None:
            self._cache.keep(host, path, want, found.cache, own.app, monotonic())
        return Hop(want, {"fly-replay-src": source, CACHED: "miss"}, sender)

    def tunnel(self, request: server.Request, leg: Leg, data: bytes) -> None:
        request.send(data)
        transport, early = leg.give_away()
        client, ahead = request.upgrade()
        one = Tunnel(client, transport, lambda _: self._tunnels.discard(one), self.wire.buffers)
        self._tunnels.add(one)
        if early:
            client.write(early)
        if ahead:
            transport.write(ahead)


class _ProxiedRequest:
    """One request of a client."""

    def __init__(self, proxy: Proxy, request: server.Request) -> None:
        self._proxy, self._request = proxy, request
        self._identity = secrets.token_hex(13).upper()
        self._began = monotonic()
        self._hops: list[str] = []
        self._body = Body(request)
        self._lines = proxy_rules.from_client(
            request.head, request.peer, proxy.port, proxy.edge, f"{self._identity}-{proxy.edge}"
        )

    async def run(self) -> None:
        """Handle the request until it has a response or the client has disconnected."""
        head_of = self._request.head
        if head_of.minor and b"expect" in head_of.noted:
            self._request.send_interim(b"HTTP/1.1 100 Continue\r\n\r\n")
        route = tasks.start(self._route(), "route of a request")
        try:
            await asyncio.wait([route, self._body.left], return_when=asyncio.FIRST_COMPLETED)
            if not route.done():
                self._note("the client left")
        finally:
            route.cancel()
            await asyncio.wait([route])
        with contextlib.suppress(asyncio.CancelledError):
            route.result()
        target = head_of.path.decode("latin-1")
        took = (monotonic() - self._began) * 1000
        self._proxy.log(f"{head_of.method.decode('latin-1')} {target}  {'  →  '.join(self._hops)}  {took:.0f} ms")

    def _note(self, text: str) -> None:
        self._hops.append(text)

    async def _route(self) -> None:
        hop: Hop | None = self._proxy.first_hop(self._request.head)
        replays = 0
        try:
            while hop is not None:
                hop = await self._follow(hop)
                replays += 1
                if hop is not None and replays > MOST_REPLAYS:
                    return self._error("PA02", f"the request was replayed more than {MOST_REPLAYS} times")
        except BadReplay as error:
            self._error(error.code, str(error))
        except NoAnswer as error:
            self._error("PU02", str(error))

    async def _follow(self, hop: Hop) -> Hop | None:
        """Follow one hop. Return the next one, or None if the response was sent."""
        began = monotonic()
        reached = await self._proxy.reach(hop, self._note)
        if isinstance(reached, Unreached):
            return self._fall_back(hop, reached, monotonic() - began)
        machine, adds = reached.machine, hop.adds
        if hop.want.prefer_instance and hop.want.prefer_instance != machine.record.id:
            adds = {**adds, "fly-preferred-instance-unavailable": hop.want.prefer_instance}
        leg = Leg(reached.connection, self._request, self._body)
        given_away = False
        machine.load += 1
        try:
            leg.ask(proxy_rules.towards_machine(self._request.head, self._lines, adds, hop.want.transform))
            reply = await leg.reply
            found = await self._replay(leg, reply)
            if found is None:
                name, failed = machine.record.name, reply.status >= 500
                self._note(f"{name} {reply.status}" + f" (flyatc sim logs {name} says why)" * failed)
                given_away = await self._deliver(leg, reply)
                return None
        finally:
            machine.load -= 1
            if not given_away:
                leg.drop()
        self._note(f"{machine.record.name} replays: {_shown(found)}")
        await self._body.settled.wait()
        return self._next(hop, found, machine)

    def _next(self, hop: Hop, found: Replay, machine: Machine) -> Hop:
        if hop.final:
            raise BadReplay("a request returned by a fallback cannot be replayed again")
        if not self._body.replayable:
            raise TooLarge("the request's body is larger than 1 MB, and cannot be replayed")
        if (hop.adds.get(CACHED) == "hit" or hop.want.is_cached) and found.is_cached:
            raise BadReplay("only one step is looked up in the cache: caching by its target is undefined")
        return self._proxy.next_hop(self._request.head, found, machine)

    async def _replay(self, leg: Leg, reply: head.ResponseHead) -> Replay | None:
        """Return the replay that a response requests, or None. Raises BadReplay."""
        if (reply.line(b"content-type") or b"").partition(b";")[0].strip().lower() == replay.JSON:
            return replay.of_json(await leg.json())
        value = reply.line(b"fly-replay")
        if value is None:
            return None
        texts = [reply.line(b"fly-replay-cache" + end) for end in (b"", b"-ttl-secs", b"-allow-bypass")]
        cache = replay.caching_of_headers(*(None if text is None else text.decode("latin-1") for text in texts))
        return replay.of_header(value.decode("latin-1"), cache)

    def _fall_back(self, hop: Hop, why: Unreached, seconds: float) -> Hop | None:
        origin = hop.origin
        self._note(f"{why.code} {why.reason}")
        if origin is None or not hop.want.fallback:
            self._error(why.code, why.message)
            return None
        want = Replay(app=origin.record.app, instance=origin.record.id)
        if hop.want.fallback == "prefer_self":
            want = Replay(app=origin.record.app, prefer_instance=origin.record.id)
        failed = replay.failed(hop.want, origin.record.id, why.reason, int(seconds * 1000))
        return Hop(want, {"fly-replay-failed": failed}, final=True)

    async def _deliver(self, leg: Leg, reply: head.ResponseHead) -> bool:
        """Send the response to the client. Return True if the connection became a tunnel. Raises NoResponse."""
        request = self._request
        if reply.status == 101 and request.head.upgrade is not None:
            data = proxy_rules.towards_client(reply, self._identity, chunks=False, close=False)
            self._proxy.tunnel(request, leg, data)
            return True
        chunks = reply.framing in (head.CHUNKED, head.UNTIL_CLOSE) and request.head.minor > 0
        close = not request.keep_alive or not self._body.whole or (reply.framing is head.UNTIL_CLOSE and not chunks)
        close = close or (reply.framing is head.CHUNKED and not chunks)
        await leg.deliver(proxy_rules.towards_client(reply, self._identity, chunks=chunks, close=close), chunks=chunks)
        request.receiver = None
        request.end_response(close=close)
        return False

    def _error(self, code: str, message: str) -> None:
        """Respond with an empty 502; the reason is only in the proxy's log."""
        self._note(f"502 {code}: {message}")
        request = self._request
        if request.response_started:
            return request.abort()
        close = not request.keep_alive or not self._body.whole
        request.receiver = None
        request.send(response.build(502, [(b"Server", b"Fly/simulated"), (b"Via", proxy_rules.VIA)], b"",
                                  head_only=False, close=close))  # fmt: skip
        return request.end_response(close=close)


def _text(request: head.RequestHead, name: bytes) -> str:
    return (request.line(name) or b"").decode("latin-1")


def _host(request: head.RequestHead) -> str:
    """Return the host without its port."""
    return (request.one(b"host") or b"").decode("latin-1").lower().rpartition("]")[2].partition(":")[0]


def _shown(found: Replay) -> str:
    """Format the fields of a replay, without ``state``, which may be secret."""
    fields = {
        name: getattr(found, name) for name in ("instance", "prefer_instance", "region", "app", "timeout", "fallback")
    }
    return " ".join([f"{name}={value}" for name, value in fields.items() if value] + ["elsewhere"] * found.elsewhere)


def _refuse(_: server.Connection, fault: BadMessage, started: bytes) -> bytes:
    return response.build(fault.status, [], b"", head_only=False, close=True)
