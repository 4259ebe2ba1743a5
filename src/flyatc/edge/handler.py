"""The path of one request, from a client or from another machine of this system. Read this first.

A warm request runs through here and through ``forward`` without a task and without an await. One object goes all the
way: the ``Exchange`` (as ``Forward``). What depends on the configuration only is worked out once, in ``ServedApp``.
"""

import os
import re
from functools import partial
from time import time

from flyatc.config import private_paths
from flyatc.config.schema import App, Config, Dashboard
from flyatc.delivery.cache.cache import Cache
from flyatc.delivery.cache.stored import CacheHit
from flyatc.edge import (
    access_log,
    app_delivery,
    basic_auth,
    cold_start,
    exchange,
    fly_replay,
    forward,
    headers,
    maintenance,
    maintenance_rules,
    peer_forward,
    responses,
    serve_cached,
    static_files,
    upstream,
)
from flyatc.edge.served_app import ServedTenant
from flyatc.routing import request_signature, route
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.in_flight import InFlightRequest
from flyatc.wire import server
from flyatc.wire.errors import BadMessage
from flyatc.wire.head import RequestHead

RECENT = 4096  # paths whose tenant is remembered: most traffic is on few of them
MOST_TO_DASHBOARD = 1 << 20  # octets of a body
_PAGE = re.compile(rb"(?:/[A-Za-z0-9._-]+)*/?")  # below the dashboard's path
_TOKEN = re.compile(rb"(?<![^&])token=[^&]*")  # in the query of a live part of a page
_DASHBOARD = App(delivery=peer_forward.AS_IT_IS)
LONGEST_RECENT = 256  # octets; longer paths are not remembered, so that all together stay below 2 MB


class Handler:
    """Handles every request. ``use`` sets the configuration, at the start and at each reload. ``exchange`` makes the
    object of a request, for ``wire.server.Server``."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        records: access_log.Recorder,
        cache: Cache | None,
        before: maintenance.Maintenance,
        replayer: fly_replay.FlyReplay | None,
        dashboard: upstream.Gateway | None = None,
    ) -> None:
        """``replayer``: on Fly, where other machines may serve a user; None elsewhere. ``dashboard``: used if the
        configuration has one."""
        self._replayer, self._dashboard = replayer, dashboard
        self._fleet, self._recorder, self._maintenance = fleet, records, before
        self._deliveries = app_delivery.AppDeliveries(
            list(private_paths.private_paths(config)), cache, lambda path: self.routes.lists(path)
        )
        self._on_fly = "FLY_APP_NAME" in os.environ
        self.exchange = partial(forward.Forward, records)
        self._auth = basic_auth.BasicAuth()
        self._again = self._start_anew  # bound once, not for each request
        self.use(config)

    def use(self, config: Config, routes: route.Routes | None = None) -> None:
        """Apply a configuration: routes, pages, limits. ``routes``: those of the configuration, if they are made
        already."""
        self._config, self._serves = config, config.serves
        self._hops, self._largest_body = config.server.trusted_hops, config.limits.request_body
        self._names_remote = headers.names_remote(self._hops, self._on_fly)
        self._health = config.server.health.encode() if config.server.health else None
        dashboard = config.dashboard
        self._host = dashboard.host.encode() if dashboard is not None and dashboard.host is not None else None
        self._deliveries.use(beside=dashboard is not None)
        self.routes = routes or route.Routes(config)
        self._recent: dict[bytes, ServedTenant] = {}  # by path
        own = [*config.pages.values(), *(f for t in config.tenants.values() for f in t.app.pages.values())]
        if config.pattern is not None:
            own += [f for _, app in config.pattern.tenants for f in app.pages.values()]
        self._responder = responses.Responder(responses.Pages(own), config.pages)
        self._recorder.lines = config.log.requests
        self._maintenance.most = config.limits.held
        self._auth.use()

    # --- where it belongs ---

    def handle(self, to: forward.Forward) -> None:
        """Handle a request from a client or from Fly Proxy."""
        if self._names_remote and (self._hops or b"fly-client-ip" in to.head.noted):
            to.remote = headers.remote(to.head, to.peer, self._hops, self._on_fly)
        at = self._recent.get(to.head.path) if self._host is None or not self._is_own_host(to.head) else None
        if at is not None and at.spec is at.tenant.spec and not at.tenant.removed:
            return self._deliver(to, at)
        return self._route(to)

    def handle_forwarded(
        self, to: forward.Forward, came: request_signature.ForwardedRequest | request_signature.InvalidSignature
    ) -> None:
        """Handle a request from the private network. If its signature is valid, its headers are trusted as if Fly
        Proxy had delivered it; otherwise respond 403."""
        if isinstance(came, request_signature.InvalidSignature):
            to.identity = headers.new_id()
            return self._responder.reject_signature(to, came.reason)
        to.remote = headers.remote(to.head, to.peer, self._hops, self._on_fly)
        to.forwarded = came
        return self._route_to_user(to)

    def _route(self, to: forward.Forward) -> None:
        """Serve the daemon's own health path, else find the user."""
        path = to.head.path
        if path == self._health:
            return self.respond_silently(to, b"ok\n")
        if path == b"*":
            return self._responder.plain(to, 200, b"")
        return self._route_to_user(to)

    def respond_silently(self, to: forward.Forward, text: bytes) -> None:
        """Respond with plain text, without a line in the log."""
        to.silent = True
        self._responder.plain(to, 200, text)

    def _route_to_user(self, to: forward.Forward) -> None:
        """Find the tenant, and serve health checks and static files; else ``_deliver``."""
        path = to.head.path
        if self._config.dashboard is not None and self._is_for_dashboard(to.head, self._config.dashboard):
            return self._serve_dashboard(to, self._config.dashboard)
        found = self.routes.match(path, to.head.query)
        if isinstance(found, route.Refuse):
            return self._responder.refuse(to, found.status, found.reason)
        if isinstance(found, route.Redirect):
            if self._belongs_elsewhere(found.user):
                return self._responder.imitate_replay(to)
            return self._responder.redirect(to, found.location, found.reason)
        tenant = self._fleet.find(found.user, found.name)
        if tenant is None:
            return self._responder.refuse(to, 404, "no such tenant")
        at = ServedTenant(found, tenant, self._deliveries.of(tenant.spec), self._config, on_fly=self._on_fly)
        to.user, to.tenant = at.user, at.address
        if to.forwarded is not None and to.forwarded.user != found.user:
            return self._responder.reject_signature(
                to, f"it was sent as a request of {to.forwarded.user}: the files differ"
            )
        if self._is_too_large(to):
            return self._refuse_body(to, at)
        if path == found.health:
            return self._check_health(to, at)
        if at.spec.app.auth is not None:
            below = path[len(found.prefix) :]
            return self._auth.admit(to, at.spec.app, below, partial(self._admitted, to, at), self._responder)
        return self._admitted(to, at)

    def _is_for_dashboard(self, head: RequestHead, settings: Dashboard) -> bool:
        if settings.host is not None:
            return self._is_own_host(head)
        own = settings.path.encode()
        return head.path.startswith(own) and head.path[len(own) :][:1] in (b"", b"/")

    def _is_own_host(self, head: RequestHead) -> bool:
        return (head.one(b"host") or b"").lower().partition(b":")[0] == self._host

    def _serve_dashboard(self, to: forward.Forward, settings: Dashboard) -> None:
        """Forward to the dashboard. On its own host there is nothing else."""
        head, path, own = to.head, to.head.path, settings.path.encode()
        if path == b"/" and settings.host is not None:
            return self._responder.redirect(to, own + b"/", "the dashboard's own host")
        if self._dashboard is None or not path.startswith(own) or not _PAGE.fullmatch(path, len(own)) or b".." in path:
            return self._responder.refuse(to, 404, "no page of the dashboard")
        if head.length > MOST_TO_DASHBOARD:
            return self._responder.refuse(to, 413, f"the body is larger than {MOST_TO_DASHBOARD} bytes")
        delivery = app_delivery.without_tenant(_DASHBOARD, None, ())
        path, now = path[len(own) :] or b"/", int(time() * 1000)
        asked = headers.towards_dashboard(
            head, path=path, peer=to.peer, remote=to.remote, ports=_ports(to), identity=to.identity, milliseconds=now
        )
        if head.query is not None:  # from now on for the log only
            head.query = _TOKEN.sub(b"token=hidden", head.query)
        return to.forward(self._dashboard, delivery, asked, self._responder)

    def _admitted(self, to: forward.Forward, at: ServedTenant) -> None:
        """Serve a static file, or ``_deliver``. The client may see this tenant."""
        path, found = to.head.path, at.found
        static = at.delivery.static
        if static is not None and static_files.serve_static(
            to, static, at.spec.app, path[len(found.prefix) :], self._responder
        ):
            return None
        if static is None and to.forwarded is None and to.login is None:
            self._remember(path, at)
        return self._deliver(to, at)

    def _remember(self, path: bytes, at: ServedTenant) -> None:
        """Remember where a path leads, if its user is in the file or its app runs: requests for users that do not exist
        fill no memory."""
        if len(path) <= LONGEST_RECENT and (at.tenant.listed or at.tenant.peek() is not None):
            if len(self._recent) >= RECENT:
                self._recent.clear()
            self._recent[path] = at

    def _is_too_large(self, to: forward.Forward) -> bool:
        return bool(self._largest_body) and to.head.length > self._largest_body

    def _refuse_body(self, to: forward.Forward, at: ServedTenant) -> None:
        reason = f"the body is larger than {self._largest_body} bytes"
        self._responder.refuse(to, 413, reason, own=at.spec.app.pages)

    # --- what responds to it ---

    def _deliver(self, to: forward.Forward, at: ServedTenant) -> None:
        """Respond from the cache or from the app, unless maintenance forbids it."""
        to.user, to.tenant, to.served = at.user, at.address, at
        if to.head.length and self._is_too_large(to):
            return self._refuse_body(to, at)
        if self._maintenance.closed:
            closed = self._maintenance.judge(at.address)
            if isinstance(closed, maintenance_rules.Closed):
                return self._responder.maintenance(to, closed, at.spec.app.pages)
        cache = at.delivery.cache
        if cache is None:
            return self._need_app(to, at)
        now = time()
        found = cache.pass_by(to.head, at.address, at.delivery.compression, now)
        if isinstance(found, int):
            to.stamp, to.since, to.cache = found, now, cache.PASSED
            return self._need_app(to, at)
        if found is None:
            return self._look_up(to, at, cache)
        return serve_cached.send_rendered(to, found.status, found.head(now), found.body)

    def _look_up(self, to: forward.Forward, at: ServedTenant, cache: Cache) -> None:
        """Respond from the cache if it can; else from the app."""
        to.stamp = None  # of an earlier delivery, before a pause
        if (outcome := serve_cached.look_up(to, at.delivery, cache)) is None:
            return self._need_app(to, at)
        go, anew = partial(self._need_app, to, at), partial(self._refresh, to, at)
        return serve_cached.Lookup(to, at.delivery, cache, self._responder, go, anew).take(outcome)

    def _need_app(self, to: forward.Forward, at: ServedTenant) -> None:
        """Forward to the running app; else pause, replay to another machine, or start the app."""
        if self._maintenance.paused:
            again = partial(self._deliver_again, to, at)
            if self._maintenance.intercept(to, at.tenant.spec, again, self._responder):
                return None
        run = at.tenant.warm()
        if run is not None:
            run.requests.enter()
            to.start, to.on_end = "warm", run.requests.exit
            assert isinstance(run.gateway, upstream.Gateway)
            return to.forward(
                run.gateway, at.delivery, exchange.app_head(to, to.recording), self._responder, self._again
            )
        if self._replayer is not None and self._replayer.respond_if_elsewhere(to, at.tenant, self._responder):
            return None
        if self._belongs_elsewhere(at.user):
            to.sent_on()
            return self._responder.imitate_replay(to)
        return cold_start.ColdStart(to, self._renewed(at), self.serve, self._responder).begin(self._replayer)

    def _belongs_elsewhere(self, user: str) -> bool:
        """Return whether this machine, outside Fly, serves other users only."""
        return self._replayer is None and not self._serves(user)

    def _deliver_again(self, to: forward.Forward, at: ServedTenant) -> None:
        """Deliver a request released from a pause. By now the cache may hold the response, or released requests may
        share one."""
        self._deliver(to, self._renewed(at))

    def _renewed(self, at: ServedTenant) -> ServedTenant:
        """Return it with the tenant's present settings: a reload may have changed them."""
        tenant = at.tenant
        if at.spec is tenant.spec:
            return at
        return ServedTenant(at.found, tenant, self._deliveries.of(tenant.spec), self._config, on_fly=self._on_fly)

    def serve(self, to: forward.Forward, at: ServedTenant, visit: InFlightRequest) -> None:
        """Forward the request to the app, which has just been started."""
        to.on_end = visit.end
        self._forward(to, self._renewed(at), visit.gateway, self._again)

    def _start_anew(self, to: forward.Forward) -> None:
        """Wait for a new start: the app that was running refuses connections."""
        on_end, to.on_end = to.on_end, None
        assert on_end is not None
        on_end()
        at = to.served
        assert isinstance(at, ServedTenant)
        start = cold_start.ColdStart(to, self._renewed(at), self.serve, self._responder, instead_of=to.gateway)
        start.begin(self._replayer)

    def _forward(
        self, to: forward.Forward, at: ServedTenant, through: object, again: forward.Again | None = None
    ) -> None:
        assert isinstance(through, upstream.Gateway)
        to.served = at
        to.forward(through, at.delivery, exchange.app_head(to, to.recording), self._responder, again)

    def _refresh(self, to: forward.Forward, at: ServedTenant, served: CacheHit) -> None:
        """Revalidate a stored response in the background, unless the app is stopped, paused or in maintenance. Then
        the app is asked once the response is too old to be sent."""
        cache, through = self._deliveries.cache, at.tenant.peek()
        if cache is None or through is None or self._maintenance.judge(at.address) is not None:
            return
        assert isinstance(through, upstream.Gateway)
        recording = cache.refresh(served, to.head, at.address, time(), rfc=at.delivery.rfc)
        app_head = exchange.app_head(to, recording)
        serve_cached.RefreshRequest(recording, through, at.delivery, to.head.method, app_head).begin()

    def _check_health(self, to: forward.Forward, at: ServedTenant) -> None:
        """Respond to a tenant's health check, which never starts an app and does not count as use. A stopped app is
        healthy; so is one in maintenance or paused, or a load balancer would take the whole machine out for it."""
        to.silent = True
        if (shut := self._maintenance.judge(at.address)) is not None:
            return self._responder.plain(to, 200, shut.reason.encode() + b"\n")
        through = at.tenant.peek()
        if through is None:
            return self._responder.plain(to, 200, b"asleep\n")
        return self._forward(to, at, through)

    def close(self) -> None:
        self._auth.close()

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._responder.malformed(self._recorder, of.peer, fault, started)


def _ports(to: forward.Forward) -> bytes:
    """Return the ports of a client's connection: its own, and ours."""
    transport = to.transport
    names = [transport.get_extra_info(name) for name in ("peername", "sockname")] if transport is not None else []
    return b" ".join([b"%d" % name[1] for name in names if isinstance(name, tuple)])
