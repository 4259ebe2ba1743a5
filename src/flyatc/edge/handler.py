"""The path of one request, from a client or from another machine of this system. Read this first.

A warm request runs through here and through ``forward`` without a task and without an await.
"""

import os
from collections.abc import Callable
from functools import partial
from time import time

from flyatc.config import private_paths
from flyatc.config.schema import Config
from flyatc.delivery.cache.cache import Cache
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit, Ready
from flyatc.edge import (
    access_log,
    app_delivery,
    caching,
    cold_start,
    exchange,
    fly_replay,
    forward,
    headers,
    maintenance,
    maintenance_rules,
    responses,
    static_files,
    upstream,
)
from flyatc.routing import request_signature, route
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.scheduler import InFlightRequest
from flyatc.tenants.tenant import Tenant
from flyatc.wire import server
from flyatc.wire.errors import BadMessage


class Handler:
    """Handles every request. ``use`` sets the configuration, at the start and at each reload."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        records: access_log.Recorder,
        cache: Cache | None,
        before: maintenance.Maintenance,
        replayer: fly_replay.FlyReplay | None,
    ) -> None:
        """``replayer``: on Fly, where other machines may serve a user; None elsewhere."""
        self._replayer = replayer
        self._fleet, self._recorder, self._maintenance = fleet, records, before
        self._deliveries = app_delivery.AppDeliveries(
            list(private_paths.private_paths(config)), cache, lambda path: self.routes.lists(path)
        )
        self._on_fly = "FLY_APP_NAME" in os.environ
        self.use(config)

    def use(self, config: Config) -> None:
        """Apply a configuration: routes, pages, limits."""
        self._serves = config.serves
        self._settings, self._largest_body = config.server, config.limits.request_body
        self._health = config.server.health.encode() if config.server.health else None
        self.routes = route.Routes(config)
        own = [*config.pages.values(), *(f for t in config.tenants.values() for f in t.app.pages.values())]
        if config.pattern is not None:
            own += [f for _, app in config.pattern.tenants for f in app.pages.values()]
        self._responder = responses.Responder(responses.Pages(own), config.pages)
        self._recorder.lines = config.log.requests
        self._maintenance.most = config.limits.held

    def handle(self, request: server.Request) -> None:
        """Handle a request from a client or from Fly Proxy."""
        to = self._begin(request)
        path = request.head.path
        if path == self._health:
            to.silent = True
            return self._responder.plain(to, 200, b"ok\n")
        if path == b"*":
            return self._responder.plain(to, 200, b"")
        return self._route(to)

    def handle_forwarded(
        self, request: server.Request, came: request_signature.ForwardedRequest | request_signature.InvalidSignature
    ) -> None:
        """Handle a request from the private network. If its signature is valid, its headers are trusted as if Fly
        Proxy had delivered it; otherwise respond 403."""
        if isinstance(came, request_signature.InvalidSignature):
            to = exchange.Exchange(self._recorder, request, headers.new_id(), request.peer)
            return self._responder.reject_signature(to, came.reason)
        to = self._begin(request)
        to.forwarded = came
        return self._route(to)

    def _route(self, to: exchange.Exchange) -> None:
        """Find the tenant, apply limits, and serve health checks and static files; else ``_deliver``."""
        request = to.request
        path = request.head.path
        found = self.routes.match(path, request.head.query)
        if isinstance(found, route.Refuse):
            return self._responder.refuse(to, found.status, found.reason)
        if isinstance(found, route.Redirect):
            if self._belongs_elsewhere(found.user):
                return self._responder.imitate_replay(to)
            return self._responder.redirect(to, found.location, found.reason)
        tenant = self._fleet.find(found.user, found.name)
        if tenant is None:
            return self._responder.refuse(to, 404, "no such tenant")
        to.user, to.tenant = found.user, tenant.spec.address
        if to.forwarded is not None and to.forwarded.user != found.user:
            return self._responder.reject_signature(
                to, f"it was sent as a request of {to.forwarded.user}: the files differ"
            )
        if self._largest_body and request.head.length > self._largest_body:
            reason = f"the body is larger than {self._largest_body} bytes"
            return self._responder.refuse(to, 413, reason, own=tenant.spec.app.pages)
        if path == found.health:
            return self._check_health(to, found, tenant)
        at = self._deliveries.of(tenant.spec)
        if at.static is not None and static_files.serve_static(
            to, at.static, at.app, path[len(found.prefix) :], self._responder
        ):
            return None
        return self._deliver(to, found, tenant, at)

    def _deliver(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, at: app_delivery.AppDelivery) -> None:
        """Respond from the cache or from the app, unless maintenance forbids it."""
        if self._maintenance.closed:
            closed = self._maintenance.judge(tenant.spec.address)
            if isinstance(closed, maintenance_rules.Closed):
                return self._responder.maintenance(to, closed, tenant.spec.app.pages)
        if at.cache is None or (outcome := caching.look_up(to, at, at.cache)) is None:
            return self._need_app(to, found, tenant)
        if isinstance(outcome, Ready):
            return caching.send_ready(to, outcome)
        go, anew = partial(self._need_app, to, found, tenant), partial(self._refresh, to, found, tenant)
        return caching.Lookup(to, at, at.cache, self._responder, go, anew).take(outcome)

    def _need_app(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """Forward to the running app; else pause, replay to another machine, or start the app."""
        if self._maintenance.paused:
            again = partial(self._deliver_again, to, found, tenant)
            if self._maintenance.intercept(to, tenant.spec, again, self._responder):
                return None
        visit = tenant.visit()
        if visit is not None:
            to.start = "warm"
            return self.serve(to, found, tenant, visit)
        if self._replayer is not None and self._replayer.respond_if_elsewhere(to, tenant, self._responder):
            return None
        if self._belongs_elsewhere(tenant.spec.user):
            to.sent_on()
            return self._responder.imitate_replay(to)
        at = self._deliveries.of(tenant.spec)
        return cold_start.ColdStart(to, found, tenant, self.serve, self._responder, at).begin(self._replayer)

    def _belongs_elsewhere(self, user: str) -> bool:
        """Return whether this machine, outside Fly, serves other users only."""
        return self._replayer is None and not self._serves(user)

    def _deliver_again(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """Deliver a request released from a pause. By now the cache may hold the response, or released requests may
        share one."""
        self._deliver(to, found, tenant, self._deliveries.of(tenant.spec))

    def serve(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, visit: InFlightRequest) -> None:
        """Forward the request to the running app."""
        to.on_end = visit.end
        self._forward(to, found, tenant, visit.gateway, partial(self._again, to, found, tenant, visit))

    def _again(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, visit: InFlightRequest) -> None:
        """Wait for a new start: the app that was running refuses connections."""
        to.on_end = None
        visit.end()
        at = self._deliveries.of(tenant.spec)
        cold_start.ColdStart(to, found, tenant, self.serve, self._responder, at, instead_of=visit).begin(self._replayer)

    def _forward(
        self,
        to: exchange.Exchange,
        found: route.Here,
        tenant: Tenant,
        through: object,
        again: Callable[[], None] | None = None,
    ) -> None:
        assert isinstance(through, upstream.Gateway)
        app_head = self._app_head(to, found, tenant, to.recording)
        forward.Forward(to, through, self._deliveries.of(tenant.spec), app_head, self._responder, again).begin()

    def _app_head(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, recording: Recording | None) -> bytes:
        app, path = tenant.spec.app, to.request.head.path
        forward = self._settings.forward_headers and not (self._on_fly and headers.is_private_peer(to.request.peer))
        if not app.strip_prefix:
            return exchange.head(to, app, recording, path=path, forward=forward)
        prefix = found.prefix
        return exchange.head(to, app, recording, path=path[len(prefix) :] or b"/", forward=forward, prefix=prefix)

    def _refresh(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, served: CacheHit) -> None:
        """Revalidate a stored response in the background, unless the app is stopped, paused or in maintenance. Then
        the app is asked once the response is too old to be sent."""
        cache, through = self._deliveries.cache, tenant.peek()
        if cache is None or through is None or self._maintenance.judge(tenant.spec.address) is not None:
            return
        assert isinstance(through, upstream.Gateway)
        at = self._deliveries.of(tenant.spec)
        recording = cache.refresh(served, to.request.head, tenant.spec.address, time(), rfc=at.rfc)
        app_head = self._app_head(to, found, tenant, recording)
        caching.RefreshRequest(recording, through, at, to.request.head.method, app_head).begin()

    def _check_health(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """Respond to a tenant's health check, which never starts an app and does not count as use. A stopped app is
        healthy; so is one in maintenance or paused, or a load balancer would take the whole machine out for it."""
        to.silent = True
        if (shut := self._maintenance.judge(tenant.spec.address)) is not None:
            return self._responder.plain(to, 200, shut.reason.encode() + b"\n")
        through = tenant.peek()
        if through is None:
            return self._responder.plain(to, 200, b"asleep\n")
        return self._forward(to, found, tenant, through)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._responder.malformed(self._recorder, of.peer, fault, started)

    def _begin(self, request: server.Request) -> exchange.Exchange:
        head, settings = request.head, self._settings
        remote = headers.remote(head, request.peer, settings.trusted_hops, self._on_fly)
        return exchange.Exchange(self._recorder, request, headers.request_id(head), remote)


class PrivateHandler:
    """Handler of the private network: verifies signatures. Serves only requests for users, not the server's health."""

    def __init__(self, signer: request_signature.RequestSigner, within: Handler) -> None:
        self._signer, self._within = signer, within

    def handle(self, request: server.Request) -> None:
        head = request.head
        came = self._signer.open(head.every(request_signature.HEADER), head.method, headers.target(head), time())
        if isinstance(came, request_signature.ForwardedRequest):
            head.drop(request_signature.HEADER)
            request.peer = came.peer or request.peer
        self._within.handle_forwarded(request, came)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._within.refuse(of, fault, started)
