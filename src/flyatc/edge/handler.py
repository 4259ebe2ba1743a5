"""The path of one request: guard clauses, and one thing done. Read this first.

A warm request runs through here and through ``forward`` without a task and without an await.

The door for our other machines, on the private network: nobody else's requests are served there.
"""

import os
from collections.abc import Callable
from functools import partial
from time import time

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
    """``use`` gives it a configuration, at the start and again at each reload."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        records: access_log.Recorder,
        cache: Cache | None,
        before: maintenance.Maintenance,
        sign: fly_replay.FlyReplay | None,
    ) -> None:
        """``sign``: on Fly, where other machines may serve a user."""
        self._signpost = sign
        self._fleet, self._recorder, self._barrier = fleet, records, before
        self._desks = app_delivery.AppDeliveries(config.server.data, cache)
        self._on_fly = "FLY_APP_NAME" in os.environ
        self.use(config)

    def use(self, config: Config) -> None:
        self._serves = config.serves
        self._settings, self._largest_body = config.server, config.limits.request_body
        self._health = config.server.health.encode() if config.server.health else None
        self.routes = route.Routes(config)
        own = [*config.pages.values(), *(f for t in config.tenants.values() for f in t.app.pages.values())]
        if config.pattern is not None:
            own += [f for _, app in config.pattern.tenants for f in app.pages.values()]
        self._responder = responses.Responder(responses.Pages(own), config.pages)
        self._recorder.lines = config.log.requests
        self._barrier.most = config.limits.held

    def handle(self, request: server.Request) -> None:
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
        """It came by the private network, of another machine of ours or of who claims to be one. What it says of
        itself is believed as if Fly Proxy had brought it."""
        if isinstance(came, request_signature.InvalidSignature):
            to = exchange.Exchange(self._recorder, request, headers.new_id(), request.peer)
            return self._responder.distrust(to, came.reason)
        to = self._begin(request)
        to.came = came
        return self._route(to)

    def _route(self, to: exchange.Exchange) -> None:
        request = to.request
        path = request.head.path
        found = self.routes.match(path, request.head.query)
        if isinstance(found, route.Refuse):
            return self._responder.refuse(to, found.status, found.reason)
        if isinstance(found, route.Redirect):
            if self._is_strange(found.user):
                return self._responder.as_on_fly(to)
            return self._responder.redirect(to, found.location, found.reason)
        tenant = self._fleet.find(found.user, found.name)
        if tenant is None:
            return self._responder.refuse(to, 404, "no such tenant")
        to.user, to.tenant = found.user, tenant.spec.address
        if to.came is not None and to.came.user != found.user:
            return self._responder.distrust(to, f"it was sent as a request of {to.came.user}: the files differ")
        if self._largest_body and request.head.length > self._largest_body:
            reason = f"the body is larger than {self._largest_body} bytes"
            return self._responder.refuse(to, 413, reason, own=tenant.spec.app.pages)
        if path == found.health:
            return self._ask_health(to, found, tenant)
        at = self._desks.of(tenant.spec)
        if at.static is not None and static_files.serve_static(
            to, at.static, at.app, path[len(found.prefix) :], self._responder
        ):
            return None
        return self._deliver(to, found, tenant, at)

    def _deliver(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, at: app_delivery.AppDelivery) -> None:
        """From the cache, or from the app."""
        if self._barrier.closed:
            closed = self._barrier.judge(tenant.spec.address)
            if isinstance(closed, maintenance_rules.Closed):
                return self._responder.closed(to, closed, tenant.spec.app.pages)
        if at.cache is None or (outcome := caching.look_up(to, at, at.cache)) is None:
            return self._visit(to, found, tenant)
        if isinstance(outcome, Ready):
            return caching.send_ready(to, outcome)
        go, anew = partial(self._visit, to, found, tenant), partial(self._refresh, to, found, tenant)
        return caching.Lookup(to, at, at.cache, self._responder, go, anew).take(outcome)

    def _visit(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """The app is needed."""
        if self._barrier.paused:
            again = partial(self._deliver_anew, to, found, tenant)
            if self._barrier.stops(to, tenant.spec, again, self._responder):
                return None
        visit = tenant.visit()
        if visit is not None:
            to.start = "warm"
            return self.serve(to, found, tenant, visit)
        if self._signpost is not None and self._signpost.sends(to, tenant, self._responder):
            return None
        if self._is_strange(tenant.spec.user):
            to.sent_on()
            return self._responder.as_on_fly(to)
        at = self._desks.of(tenant.spec)
        return cold_start.ColdStart(to, found, tenant, self.serve, self._responder, at).begin(self._signpost)

    def _is_strange(self, user: str) -> bool:
        """Outside Fly, on a machine which is another user's."""
        return self._signpost is None and not self._serves(user)

    def _deliver_anew(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """It was held by a pause: the cache may have the answer now, and those who were held may share one."""
        self._deliver(to, found, tenant, self._desks.of(tenant.spec))

    def serve(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, visit: InFlightRequest) -> None:
        """The app is running: hand the request over."""
        to.on_end = visit.end
        self._forward(to, found, tenant, visit.gateway, partial(self._again, to, found, tenant, visit))

    def _again(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, visit: InFlightRequest) -> None:
        """Nobody listens where an app was running."""
        to.on_end = None
        visit.end()
        at = self._desks.of(tenant.spec)
        cold_start.ColdStart(to, found, tenant, self.serve, self._responder, at, instead_of=visit).begin(self._signpost)

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
        forward.Forward(to, through, self._desks.of(tenant.spec), app_head, self._responder, again).begin()

    def _app_head(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, recording: Recording | None) -> bytes:
        app, path = tenant.spec.app, to.request.head.path
        forward = self._settings.forward_headers and not (self._on_fly and headers.is_private_peer(to.request.peer))
        if not app.strip_prefix:
            return exchange.head(to, app, recording, path=path, forward=forward)
        prefix = found.prefix
        return exchange.head(to, app, recording, path=path[len(prefix) :] or b"/", forward=forward, prefix=prefix)

    def _refresh(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, served: CacheHit) -> None:
        """Where the app sleeps, or is paused, it is left alone: it is asked when the answer is too old to be sent."""
        cache, through = self._desks.cache, tenant.peek()
        if cache is None or through is None or self._barrier.judge(tenant.spec.address) is not None:
            return
        assert isinstance(through, upstream.Gateway)
        recording = cache.refresh(served, to.request.head, tenant.spec.address, time())
        app_head = self._app_head(to, found, tenant, recording)
        caching.RefreshRequest(
            recording, through, self._desks.of(tenant.spec), to.request.head.method, app_head
        ).begin()

    def _ask_health(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """Health checks are not visitors: a running app is asked, a sleeping one is left asleep, and is healthy. So is
        one which is closed or paused: whatever balances before us must not take the whole machine out for it."""
        to.silent = True
        if (shut := self._barrier.judge(tenant.spec.address)) is not None:
            return self._responder.plain(to, 200, shut.reason.encode() + b"\n")
        through = tenant.peek()
        if through is None:
            return self._responder.plain(to, 200, b"asleep\n")
        return self._forward(to, found, tenant, through)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        """The answer to what is no request."""
        identity = headers.new_id()
        self._recorder.refused(of.peer, identity.decode(), fault)
        return self._responder.no_request(fault.status, identity, started)

    def _begin(self, request: server.Request) -> exchange.Exchange:
        head, settings = request.head, self._settings
        remote = headers.remote(head, request.peer, settings.trusted_hops, self._on_fly)
        return exchange.Exchange(self._recorder, request, headers.request_id(head), remote)


class PrivateHandler:
    """Only requests for users pass: no health, no commands."""

    def __init__(self, seals: request_signature.RequestSigner, within: Handler) -> None:
        self._seals, self._within = seals, within

    def handle(self, request: server.Request) -> None:
        head = request.head
        came = self._seals.open(head.every(request_signature.HEADER), head.method, headers.target(head), time())
        if isinstance(came, request_signature.ForwardedRequest):
            head.drop(request_signature.HEADER)
            request.peer = came.peer or request.peer
        self._within.handle_forwarded(request, came)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._within.refuse(of, fault, started)
