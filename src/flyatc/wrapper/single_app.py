"""The path of a request for ``flyatc run``: one app, no users, no tenants, no routing."""

import os
from collections.abc import Sequence
from functools import partial
from time import monotonic, time

from flyatc.config.schema import App
from flyatc.config.schema_sections import Caching, Compression, Delivery, Sendfile
from flyatc.config.wrapper_env import WrapperSettings
from flyatc.delivery.cache.cache import Cache
from flyatc.delivery.cache.stored import CacheHit
from flyatc.edge import access_log, app_delivery, exchange, forward, headers, responses, serve_cached, upstream
from flyatc.edge.served_app import ServedApp
from flyatc.wire import server
from flyatc.wire.errors import BadMessage


class SingleApp:
    """Handles the requests of ``flyatc run``; they wait until ``release``. ``bad_gateway``: the page of all 502s;
    None: they are empty. ``roots``: where the files are that the app may name in X-Sendfile; none: here."""

    def __init__(
        self,
        through: upstream.Gateway,
        settings: WrapperSettings,
        records: access_log.Recorder,
        cache: Cache | None,
        bad_gateway: bytes | None,
        roots: Sequence[str] = (),
    ) -> None:
        self._gateway, self._recorder = through, records
        self._delivery = app_delivery.without_tenant(App(delivery=_delivery(settings)), cache, roots)
        fixed = {502: _like_thruster(bad_gateway)}
        self._responder = responses.Responder(responses.Pages(()), {}, fixed)
        self._largest_body, self._on_fly = settings.max_request_body, "FLY_APP_NAME" in os.environ
        self._served = ServedApp(self._delivery, forward=settings.forward_headers, on_fly=self._on_fly)
        self.exchange = partial(forward.Forward, records)
        self._waiting: dict[_Waiting, None] = {}  # in the order of their arrival
        self._released = False

    def handle(self, to: forward.Forward) -> None:
        head = to.head
        if self._on_fly:
            to.remote = headers.remote(head, to.peer, None, self._on_fly)
        to.served = self._served
        if head.path == b"*":
            return self._responder.plain(to, 200, b"")
        if self._largest_body and head.length > self._largest_body:
            return self._responder.refuse(to, 413, f"the body is larger than {self._largest_body} bytes")
        cache = self._delivery.cache
        if cache is None:
            return self._need_app(to)
        now = time()
        found = cache.pass_by(head, "", self._delivery.compression, now)
        if isinstance(found, int):
            to.stamp, to.since, to.cache = found, now, cache.PASSED
            return self._need_app(to)
        if found is not None:
            return serve_cached.send_rendered(to, found.status, found.head(now), found.body)
        if (outcome := serve_cached.look_up(to, self._delivery, cache)) is None:
            return self._need_app(to)
        go, anew = partial(self._need_app, to), partial(self._refresh, to, cache)
        return serve_cached.Lookup(to, self._delivery, cache, self._responder, go, anew).take(outcome)

    def _need_app(self, to: forward.Forward) -> None:
        """Forward the request to the app, or wait for ``release``."""
        if self._released:
            to.start = "warm"
            return self.serve(to)
        waiting = _Waiting(self, to)
        to.start, to.receiver = "cold", waiting
        self._waiting[waiting] = None
        return None

    def serve(self, to: forward.Forward) -> None:
        """Forward the request; if the app refuses the connection, respond 502."""
        to.forward(self._gateway, self._delivery, exchange.app_head(to, to.recording), self._responder)

    def _refresh(self, to: forward.Forward, cache: Cache, served: CacheHit) -> None:
        recording = cache.refresh(served, to.head, to.tenant or "", time(), rfc=self._delivery.rfc)
        app_head = exchange.app_head(to, recording)
        serve_cached.RefreshRequest(recording, self._gateway, self._delivery, to.head.method, app_head).begin()

    def release(self) -> None:
        """Forward all waiting requests, and later ones at once: the app listens, or has failed to."""
        self._released = True
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            one.proceed()

    def forget(self, waiting: "_Waiting") -> None:
        self._waiting.pop(waiting, None)

    def refuse(self, of: server.Connection, fault: BadMessage, started: bytes) -> bytes:
        return self._responder.malformed(self._recorder, of.peer, fault, started)


def _delivery(settings: WrapperSettings) -> Delivery:
    return Delivery(
        compression=Compression(
            enabled=settings.compression_enabled,
            jitter=settings.compression_jitter,
            disable_on_auth=settings.compression_disable_on_auth,
        ),
        sendfile=Sendfile(enabled=settings.x_sendfile_enabled),
        cache=Caching(mode=settings.cache_mode),
    )


class _Waiting(exchange.WaitingReceiver):
    """A request that arrived before the app was ready (wire.server.Receiver). Its body is not read yet."""

    def __init__(self, single: SingleApp, to: forward.Forward) -> None:
        self._single, self._to = single, to

    def proceed(self) -> None:
        self._waited()
        self._single.serve(self._to)

    def gone(self) -> None:
        self._single.forget(self)
        self._waited()
        self._to.status, self._to.reason = 499, "the client left while the app was starting"
        self._to.end()

    def _waited(self) -> None:
        self._to.receiver = None
        self._to.wait = monotonic() - self._to.began


def _like_thruster(bad_gateway: bytes | None) -> tuple[responses.Headers, bytes]:
    """Return headers and body of a 502 like thruster's: the operator's page for every client, or an empty body."""
    if bad_gateway is None:
        return [(b"Cache-Control", b"no-store")], b""
    return [(b"Content-Type", b"text/html"), (b"Cache-Control", b"no-store")], bad_gateway
