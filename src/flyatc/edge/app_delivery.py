"""Per-app delivery of responses: compression, static files, X-Sendfile, cache. Made once for all of its requests.

``CompressedBody`` compresses a streamed body slice by slice; ``AppDelivery.whole`` a short one in one step.
"""

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from flyatc.config.schema import App, Tenant
from flyatc.config.schema_sections import Coding, Compression
from flyatc.delivery import compression
from flyatc.delivery.cache.cache import Cache
from flyatc.delivery.cache.stored import Entry, File, Form
from flyatc.delivery.compression import Plan
from flyatc.delivery.encoders import SLICE, Encoder, Encoders
from flyatc.delivery.files.open_file import Opened
from flyatc.delivery.files.static import FileCompression, Static
from flyatc.delivery.files.x_sendfile import ROOTS, Sendfile
from flyatc.edge import tenant_paths
from flyatc.kit import tasks
from flyatc.process import launch_plan
from flyatc.wire import chunked, head, server

MOST_ENCODED_FILE = 1 << 20  # octets of a file that is encoded
MOST_APPS = 4096  # AppDelivery objects kept; the users of a pattern are unlimited


class AppDelivery:
    """The delivery settings of one app. ``compression``, ``static``, ``sendfile``, ``cache``: None if disabled.
    ``rfc``: ``delivery.cache.mode`` is ``rfc``. ``guarded``: whether compression of a response depends on the request's
    credentials; ``paths``: keeps cookies and redirects below the tenant's prefix, None if they pass unchanged."""

    __slots__ = (
        "_encoding", "_make_sendfile", "_sendfile", "app", "cache", "compression", "encoders", "guarded", "jitter",
        "paths", "rfc", "static",
    )  # fmt: skip

    def __init__(
        self,
        app: App,
        encoders: Encoders,
        encoding: set[File | tuple[Entry, Coding]],
        make_sendfile: Callable[[], Sendfile],
        cache: Cache | None,
        closed: Sequence[bytes] = (),
    ) -> None:
        """``encoding``: files and stored responses being encoded for later requests; shared by all apps. ``closed``:
        resolved paths of which no file is sent."""
        self.app, self.encoders = app, encoders
        self.paths: tenant_paths.TenantPaths | None = None
        self._make_sendfile = make_sendfile
        self._sendfile: Sendfile | None = None
        self.cache, self.rfc = cache if app.delivery.cache.enabled else None, app.delivery.cache.mode == "rfc"
        self._encoding = encoding
        settings = app.delivery.compression
        self.jitter = settings.jitter
        self.compression: Compression | None = settings if settings.enabled and settings.codings else None
        self.guarded = self.compression is not None and settings.disable_on_auth
        packing = None
        if self.compression is not None:
            packing = FileCompression(tuple(settings.codings), max(settings.min_size, 1), self._packed)
        static = app.delivery.static
        self.static = Static(static, app.directory, packing, closed) if static else None

    @property
    def sendfile(self) -> Sendfile | None:
        """The X-Sendfile settings, made at the first response; users served elsewhere need none."""
        if self._sendfile is None and self.app.delivery.sendfile.enabled:
            self._sendfile = self._make_sendfile()
        return self._sendfile

    def plan(self, request: head.RequestHead, answer: head.ResponseHead, *, streamed: bool) -> Plan | None:
        """Return the plan for a response, None if it is to be sent as it is. ``streamed``: its body is too long for one
        step, or not here yet."""
        if self.compression is None:
            return None
        plan = compression.wanted(request, answer, self.compression)
        crowded = plan is not None and plan.coding is not None and streamed and not self.encoders.room
        return compression.CROWDED if crowded else plan

    def whole(self, plan: Plan, body: bytes) -> bytes:
        """Return the body in the plan's coding."""
        assert plan.coding is not None
        return self.encoders.whole(plan.coding, body, jitter=self.jitter)

    def stream(self, plan: Plan) -> Encoder:
        assert plan.coding is not None
        return self.encoders.stream(plan.coding, flushes=plan.flushes, jitter=self.jitter)

    def keep_form(self, entry: Entry, coding: Coding, form: Form) -> None:
        if self.cache is not None:
            self.cache.keep_form(entry, coding.encode(), form)

    def encode_later(self, entry: Entry, coding: Coding) -> None:
        """Encode a large body for later requests, one slice per turn of the loop."""
        if (entry, coding) not in self._encoding and self.encoders.room:
            self._encoding.add((entry, coding))
            tasks.start(self._press(entry, coding), "encode for the cache")

    def _packed(self, file: Opened, coding: Coding) -> bytes | None:
        """Return the encoded file, None to send it as it is. A short file is encoded at once; a longer one in the
        background for later requests, if there is a cache. No padding: public files are no secret."""
        known = File(file.path, file.modified, file.size)
        if self.cache is not None and (found := self.cache.packed(known, coding.encode())) is not None:
            return found or None
        if file.size > (MOST_ENCODED_FILE if self.cache is not None else ONE_STEP_OCTETS) or known in self._encoding:
            return None
        try:
            body = os.pread(file.fd, file.size, 0)
        except OSError:
            return None  # sending the file will fail as well, and report it
        if file.size > ONE_STEP_OCTETS:
            if not self.encoders.room:
                return None
            self._encoding.add(known)
            tasks.start(self._pack(known, coding, body), "encode a file for the cache")
            return None
        return self._keep_packed(known, coding, body, self.encoders.whole(coding, body, jitter=0))

    async def _pack(self, known: File, coding: Coding, body: bytes) -> None:
        try:
            self._keep_packed(known, coding, body, await self._in_slices(coding, body, jitter=0))
        finally:
            self._encoding.discard(known)

    def _keep_packed(self, known: File, coding: Coding, body: bytes, made: bytes) -> bytes | None:
        worth = len(body) == known.size and len(made) < len(body)
        if self.cache is not None and len(body) == known.size:
            self.cache.keep_packed(known, coding.encode(), made if worth else b"")
        return made if worth else None

    async def _press(self, entry: Entry, coding: Coding) -> None:
        try:
            made = await self._in_slices(coding, entry.answer.body, jitter=self.jitter)
            self.keep_form(entry, coding, Form(b"", made))
        finally:
            self._encoding.discard((entry, coding))

    async def _in_slices(self, coding: Coding, body: bytes, *, jitter: int) -> bytes:
        """Encode a body, one slice per turn of the loop."""
        encoder, parts = self.encoders.stream(coding, flushes=False, jitter=jitter), []
        try:
            for made in encoder.slices(body):
                parts.append(made)
                await asyncio.sleep(0)
            return b"".join([*parts, encoder.finish()])
        finally:
            self.encoders.release(encoder)


class AppDeliveries:
    """The AppDelivery objects of all tenants, made on demand. One for the daemon."""

    def __init__(self, closed: Sequence[str], cache: Cache | None, is_tenant: Callable[[bytes], bool]) -> None:
        """``closed``: absolute paths of which no file is sent: the data of all tenants, the store, the configuration.
        A tenant's app may name files of its own data. ``is_tenant``: see tenant_paths."""
        self._closed, self.cache, self._is_tenant, self._beside = closed, cache, is_tenant, False
        self._resolved = [os.fsencode(Path(path).resolve()) for path in closed]
        self._encoders = Encoders(secrets.token_bytes(32))
        self._encoding: set[File | tuple[Entry, Coding]] = set()
        self._made: dict[str, tuple[Tenant, AppDelivery]] = {}

    def use(self, *, beside: bool) -> None:
        """``beside``: whether there is a dashboard."""
        if beside is not self._beside:
            self._beside = beside
            self._made.clear()

    def of(self, tenant: Tenant) -> AppDelivery:
        """Return the delivery for the tenant's present settings."""
        found = self._made.get(tenant.address)
        if found is not None and found[0] is tenant:
            return found[1]
        if len(self._made) >= MOST_APPS:
            self._made.clear()
        delivery = AppDelivery(
            tenant.app, self._encoders, self._encoding, partial(self._sendfile, tenant), self.cache, self._resolved
        )
        delivery.paths = tenant_paths.of(tenant, self._is_tenant, beside=self._beside)
        self._made[tenant.address] = tenant, delivery
        return delivery

    def _sendfile(self, tenant: Tenant) -> Sendfile:
        app, words = tenant.app, launch_plan.words(tenant, 0)
        roots = [launch_plan.expand(root, words, os.environ) for root in app.delivery.sendfile.roots]
        data = str(tenant.data)
        return Sendfile(app.directory, roots or [app.directory, data], self._closed, data=None if roots else data)


def without_tenant(app: App, cache: Cache | None, roots: Sequence[str]) -> AppDelivery:
    """Return the delivery of an app without tenants, which runs in the current directory. ``roots``: where its files
    are, absolute; none: in that directory."""
    here = str(Path.cwd())
    make = partial(Sendfile, here, roots or [here], setting=f"{ROOTS} in the file of --config")
    return AppDelivery(app, Encoders(secrets.token_bytes(32)), set(), make, cache)


ONE_STEP_OCTETS = 65536  # octets; a complete body up to this size is encoded in one step


class Source(Protocol):
    """The source of a body."""

    def hold(self, held: bool) -> None:
        """Apply or lift backpressure."""


class CompressedBody:
    """Compresses a streamed body. Small pieces are sent at once; of large ones one slice per turn of the loop, so that
    other requests progress. Meanwhile, and while the client's buffer is full, the source is held; pieces that still
    arrive are queued.

    ``encoders``: where ``encoder`` is from; ``chunks``: whether to use the chunked coding; ``trailers``: filters
    trailer lines; ``done``: called once when all is sent, unless closed before."""

    __slots__ = (
        "_chunks", "_done", "_encoder", "_encoders", "_end", "_queue", "_ready", "_request", "_source", "_steps",
        "_trailers", "_turn",
    )  # fmt: skip

    def __init__(
        self,
        request: server.Request,
        source: Source,
        encoders: Encoders,
        encoder: Encoder,
        *,
        chunks: bool,
        trailers: Callable[[list[bytes]], list[bytes]],
        done: Callable[[], None],
    ) -> None:
        self._request, self._source, self._encoders = request, source, encoders
        self._encoder: Encoder | None = encoder  # None: the body has ended
        self._chunks, self._trailers, self._done = chunks, trailers, done
        self._queue: deque[bytes] = deque()
        self._steps: Iterator[bytes] | None = None  # of the piece being encoded
        self._end: list[bytes] | None = None  # the trailers, once all pieces have arrived
        self._ready = True  # the client's connection accepts more
        self._turn: asyncio.Handle | None = None

    def body(self, data: bytes) -> None:
        if self._encoder is None:
            return None
        if len(data) <= SLICE and not self._busy:
            return self._send(self._encoder.feed(data))
        self._queue.append(data)
        self._source.hold(True)
        return self._go_on()

    def end(self, trailers: list[bytes]) -> None:
        """Finish after the queued pieces: all have arrived."""
        self._end = trailers
        if not self._busy:
            self._finish(trailers)

    def writable(self, ready: bool) -> None:
        """Apply the client's backpressure."""
        self._ready = ready
        if not ready:
            self._source.hold(True)
        elif self._busy:
            self._go_on()
        else:
            self._source.hold(False)

    def close(self) -> None:
        """Stop: nothing more is sent. The encoder's memory is free at once, not at the next garbage collection."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._steps = None
        self._queue.clear()
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            self._encoders.release(encoder)

    @property
    def _busy(self) -> bool:
        return self._steps is not None or bool(self._queue)

    def _go_on(self) -> None:
        if self._turn is None and self._ready:
            self._turn = asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._turn = None
        assert self._encoder is not None
        if self._steps is None:
            self._steps = self._encoder.slices(self._queue.popleft())
        made = next(self._steps, None)
        if made is None:
            self._steps = None
        else:
            self._send(made)  # the client's buffer may be full after that
        if self._busy:
            self._go_on()
        elif self._end is not None:
            self._finish(self._end)
        elif self._ready:
            self._source.hold(False)

    def _finish(self, trailers: list[bytes]) -> None:
        assert self._encoder is not None
        self._send(self._encoder.finish())
        self.close()
        if self._chunks:
            self._request.send(chunked.last(self._trailers(trailers)))
        self._done()

    def _send(self, data: bytes) -> None:
        if data:
            self._request.send(chunked.encode([data]) if self._chunks else data)
