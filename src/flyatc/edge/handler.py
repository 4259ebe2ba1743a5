"""The path of one request: guard clauses, and one thing done. Read this first.

A warm request runs through here and through ``forward`` without a task and without an await.
"""

import os
from collections.abc import Callable
from copy import copy
from functools import partial
from time import time

from flyatc.config.schema import Config
from flyatc.delivery import sendfile
from flyatc.delivery.caching import Cache
from flyatc.delivery.recording import Recording
from flyatc.delivery.served import Served
from flyatc.edge import (
    arrival,
    cached,
    desk,
    exchange,
    files,
    forward,
    gateway,
    headers,
    pages,
    recorder,
    refresh,
    respond,
)
from flyatc.edge.maintenance import Maintenance
from flyatc.routing import route
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.tenant import Tenant
from flyatc.tenants.visitors import Visit
from flyatc.wire import server
from flyatc.wire.faults import BadMessage


class Handler:
    """``use`` gives it a configuration, at the start and again at each reload."""

    def __init__(
        self, config: Config, fleet: Fleet, records: recorder.Recorder, cache: Cache | None, closed: Maintenance
    ) -> None:
        self._fleet, self._recorder, self._closed = fleet, records, closed
        self._desks = desk.Desks(config.server.data, cache)
        self._on_fly = "FLY_APP_NAME" in os.environ
        self.use(config)

    def use(self, config: Config) -> None:
        self._settings, self._largest_body = config.server, config.limits.request_body
        self._health = config.server.health.encode() if config.server.health else None
        self.routes = route.Routes(config)
        own = [*config.pages.values(), *(f for t in config.tenants.values() for f in t.app.pages.values())]
        if config.pattern is not None:
            own += [f for _, app in config.pattern.tenants for f in app.pages.values()]
        self._responder = respond.Responder(pages.Pages(own), config.pages)
        self._recorder.lines = config.log.requests

    def handle(self, request: server.Request) -> None:
        to = self._begin(request)
        path = request.head.path
        if path == self._health:
            to.silent = True
            return self._responder.plain(to, 200, b"ok\n")
        if path == b"*":
            return self._responder.plain(to, 200, b"")
        found = self.routes.match(path, request.head.query)
        if isinstance(found, route.Refuse):
            return self._responder.refuse(to, found.status, found.reason)
        if isinstance(found, route.Redirect):
            return self._responder.redirect(to, found.location, found.reason)
        tenant = self._fleet.find(found.user, found.name)
        if tenant is None:
            return self._responder.refuse(to, 404, "no such tenant")
        to.user, to.tenant = found.user, tenant.spec.address
        if self._largest_body and request.head.length > self._largest_body:
            reason = f"the body is larger than {self._largest_body} bytes"
            return self._responder.refuse(to, 413, reason, own=tenant.spec.app.pages)
        if path == found.health:
            return self._ask_health(to, found, tenant)
        at = self._desks.of(tenant.spec)
        if files.serve_static(to, at, path[len(found.prefix) :], time(), self._responder):
            return None
        return self._deliver(to, found, tenant, at)

    def _deliver(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, at: desk.Desk) -> None:
        """From the cache, or from the app."""
        message = self._closed.message(tenant.spec.address)
        if message is not None:
            return self._responder.closed(to, message, tenant.spec.app.pages)
        if at.cache is None:
            return self._visit(to, found, tenant)
        go, anew = partial(self._visit, to, found, tenant), partial(self._refresh, to, found, tenant)
        return cached.Lookup(to, at, at.cache, self._responder, go, anew).begin()

    def _visit(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """The app is needed."""
        visit = tenant.visit()
        if visit is not None:
            to.start = "warm"
            return self.serve(to, found, tenant, visit)
        return arrival.Arrival(to, found, tenant, self.serve, self._responder).begin()

    def serve(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, visit: Visit) -> None:
        """The app is running: hand the request over."""
        to.on_end = visit.end
        self._forward(to, found, tenant, visit.gateway, partial(self._again, to, found, tenant, visit))

    def _again(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, visit: Visit) -> None:
        """Nobody listens where an app was running."""
        to.on_end = None
        visit.end()
        arrival.Arrival(to, found, tenant, self.serve, self._responder, instead_of=visit).begin()

    def _forward(
        self,
        to: exchange.Exchange,
        found: route.Here,
        tenant: Tenant,
        through: object,
        again: Callable[[], None] | None = None,
    ) -> None:
        assert isinstance(through, gateway.Gateway)
        app_head = self._app_head(to, found, tenant, to.recording)
        forward.Forward(to, through, self._desks.of(tenant.spec), app_head, self._responder, again).begin()

    def _app_head(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, recording: Recording | None) -> bytes:
        app, asked = tenant.spec.app, to.request.head
        path, lines = asked.path, sendfile.OFFER if app.delivery.sendfile.enabled else b""
        if recording is not None:
            lines += recording.adds
            if recording.drops:
                asked = copy(asked)  # the visitor has said it, though the app does not hear it
                for name in recording.drops:
                    asked.drop(name)
        app_head = headers.towards_app(
            asked,
            path=(path[len(found.prefix) :] or b"/") if app.strip_prefix else path,
            peer=to.request.peer.encode(),
            identity=to.identity,
            milliseconds=int(time() * 1000),
            forward=self._settings.forward_headers,
            prefix=found.prefix if app.strip_prefix else None,
        )
        return headers.with_lines(app_head, lines)

    def _refresh(self, to: exchange.Exchange, found: route.Here, tenant: Tenant, served: Served) -> None:
        """Where the app sleeps it is left asleep: it is asked when the answer is too old to be sent."""
        cache, through = self._desks.cache, tenant.peek()
        if cache is None or through is None:
            return
        assert isinstance(through, gateway.Gateway)
        recording = cache.refresh(served, to.request.head, tenant.spec.address, time())
        app_head = self._app_head(to, found, tenant, recording)
        refresh.Refresh(recording, through, to.request.head.method, app_head).begin()

    def _ask_health(self, to: exchange.Exchange, found: route.Here, tenant: Tenant) -> None:
        """Health checks are not visitors: a running app is asked, a sleeping one is left asleep, and is healthy."""
        to.silent = True
        through = tenant.peek()
        if through is None:
            return self._responder.plain(to, 200, b"asleep\n")
        return self._forward(to, found, tenant, through)

    def refuse(self, connection: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        """The answer to what is no request."""
        identity = headers.new_id()
        self._recorder.refused(connection.peer, identity.decode(), fault)
        return self._responder.no_request(fault.status, identity, started)

    def _begin(self, request: server.Request) -> exchange.Exchange:
        head, settings = request.head, self._settings
        remote = headers.remote(head, request.peer, settings.trusted_hops, self._on_fly)
        return exchange.Exchange(self._recorder, request, headers.request_id(head), remote)
