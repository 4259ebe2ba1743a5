"""Connections to one app: a pool that keeps them alive, and the reading of answers.

An answer goes to the ``Client`` of the connection in as few calls as it came in reads; an ordinary one (head and body
in one read) in a single call. Nothing here awaits but the dialling.
"""

import asyncio
import socket
from time import monotonic
from typing import Protocol, cast

from flyatc.wire import chunked, head
from flyatc.wire.errors import BadMessage

HEAD_LIMIT = 262144  # an app may set many cookies; beyond this it is not a head
MOST_INTERIM = 64  # 1xx responses to one request; more are an app gone wrong, or one that keeps the client for ever
KEEP_IDLE = 64
IDLE_SECONDS = 30.0
FRESH_SECONDS = 1.0  # a connection used this recently is good for what may not be sent twice: the app may close it
WRITE_HIGH = 131072
APP = "the app"


class ResponseReceiver(Protocol):
    """Who waits for an answer."""

    def interim(self, answer: head.ResponseHead) -> None:
        """A 1xx answer, not 101."""

    def answer(self, answer: head.ResponseHead, body: bytes, complete: bool) -> None:
        """The head, with what came of the body in the same read. ``complete``: that was all of it."""

    def answer_body(self, data: bytes) -> None:
        """More of the body, without its framing."""

    def answer_end(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def answer_failed(self, reason: str) -> None:
        """The app closed early, or sent what is no answer. Nothing follows."""

    def app_writable(self, ready: bool) -> None:
        """Whether more of the request's body should come now (backpressure)."""


class AppConnection(asyncio.Protocol):
    """One connection to an app. ``used``: whether an answer came over it before (it may be dead by now)."""

    __slots__ = (
        "_buffer", "_decoder", "_framing", "_interim", "_left", "_method", "_parser", "_pool", "_reusable",
        "_transport", "_until", "answering", "client", "since", "unread", "used",
    )  # fmt: skip

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = head.ResponseParser(replays=pool.replays)
        self._buffer = bytearray()
        self._interim = 0  # 1xx responses so far to the present request
        self._framing: str | None = None  # of the body being read; None: a head is awaited
        self._left = 0
        self._decoder: chunked.Decoder | None = None
        self._method = b""
        self._reusable = False
        self._until = IDLE_SECONDS
        self.client: ResponseReceiver | None = None
        self.answering = False  # a byte of the answer has come
        self.used = False
        self.unread = False  # it was reset: the app has gone without reading what was sent to it (tcp(7): else a FIN)
        self.since = 0.0  # when it became idle

    # --- for the one who asks ---

    def ask(self, client: ResponseReceiver, method: bytes, data: bytes) -> None:
        """Sends the start of a request: its head, maybe some of its body; or nothing, where another sends that."""
        self.client, self._method = client, method
        self._framing, self.answering = None, False
        if data:
            self.send(data)

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def hold(self, held: bool) -> None:
        """Backpressure towards the app."""
        if self._transport is not None:
            if held:
                self._transport.pause_reading()
            elif not self._transport.is_reading():
                self._transport.resume_reading()

    def release(self, *, reuse: bool) -> None:
        """The asker is done with it. ``reuse``: its request was sent completely."""
        self.client = None
        if self._transport is None:
            return
        if reuse and self._reusable and self._framing is None and not self._buffer and self._transport.is_reading():
            self.used, self.since = True, monotonic()
            self._pool.take_back(self)
        else:
            self._transport.abort()

    def lend(self) -> tuple[asyncio.Transport, int]:
        """The transport, and how many octets of the body are still to come, for one who moves them past us.

        He calls ``returned`` when all are moved, or ``release`` where that fails."""
        assert self._transport is not None
        assert self._framing is head.LENGTH
        return self._transport, self._left

    @property
    def unwritten(self) -> asyncio.Transport | None:
        """The transport, for one who moves a request's body past us; None: some of ours still waits to be written."""
        transport = self._transport
        return None if transport is None or transport.get_write_buffer_size() else transport

    def returned(self) -> None:
        self._left, self._framing = 0, None
        self.hold(False)

    def give_away(self) -> tuple[asyncio.Transport, bytes]:
        """The transport, for a tunnel, and what the app has already sent after its 101."""
        transport, early = self._transport, bytes(self._buffer)
        assert transport is not None
        self._pool.forget(self)
        self._transport, self.client, self._buffer = None, None, bytearray()
        return transport, early

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def notice_silence(self, idle: int, taking: int) -> None:
        """For another host, which may vanish without a word (tcp(7)). ``idle``: seconds after which it is asked whether
        it is there; ``taking``: in which it must take something of what is sent: an app that is just being started
        there takes nothing for a while."""
        if self._transport is not None:
            own = self._transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, taking * 1000)

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def expired(self) -> bool:
        return monotonic() - self.since > self._until

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            return self.close()  # nobody asked
        if self._framing is head.LENGTH:
            self._counted(client, data)
        elif self._framing is None:
            self.answering = True
            self._heads(client, data)
        elif self._framing is head.CHUNKED:
            self._chunks(client, data)
        else:
            client.answer_body(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.unread = isinstance(error, ConnectionResetError | BrokenPipeError)
        self._pool.forget(self)
        client, self.client = self.client, None
        if client is None:
            return
        if self._framing is head.UNTIL_CLOSE and error is None:
            client.answer_end([])
        elif self._framing is None:
            how = "amid a head" if self._buffer else "without an answer"
            client.answer_failed(f"{self._pool.named} closed the connection {how}")
        else:
            client.answer_failed(f"{self._pool.named} closed the connection amid its answer")

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.app_writable(False)

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.app_writable(True)

    # --- answers ---

    def _heads(self, client: ResponseReceiver, data: bytes) -> None:
        if self._buffer and not (data := self._joined(client, data)):
            return None
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return self._hold_start(client, data, 0)
            end += 4
            try:
                answer = self._parser.parse(data if end == len(data) else data[:end], self._method)
            except BadMessage as fault:
                return self._broken(client, fault.reason)
            data = data[end:]
            if answer.status >= 200 or answer.status == 101:
                break
            if not self._interim_passes(client, answer) or not data:
                return None
        self._interim = 0
        if answer.status == 101:
            self._buffer += data
            return client.answer(answer, b"", False)
        self._reusable = answer.keep_alive
        hint = answer.one(b"keep-alive")
        self._until = IDLE_SECONDS if hint is None else head.idle_seconds(hint, IDLE_SECONDS)
        return self._first(client, answer, data)

    def _interim_passes(self, client: ResponseReceiver, answer: head.ResponseHead) -> bool:
        """Whether the client still waits for more."""
        self._interim += 1
        if self._interim <= MOST_INTERIM:
            client.interim(answer)
        else:
            self._broken(client, f"the app sent more than {MOST_INTERIM} interim responses (1xx)")
        return self.client is client

    def _joined(self, client: ResponseReceiver, data: bytes) -> bytes:
        """The held start of a head and ``data``; empty: the head is not whole. Only what is new is searched."""
        start = max(0, len(self._buffer) - 3)
        if b"\r\n\r\n" not in self._buffer[start:] + data:
            self._hold_start(client, data, start)
            return b""
        data, self._buffer = bytes(self._buffer + data), bytearray()
        return data

    def _hold_start(self, client: ResponseReceiver, data: bytes, start: int) -> None:
        """``start``: of what was not checked before."""
        self._buffer += data
        if len(self._buffer) > HEAD_LIMIT or not head.may_start_response(self._buffer, start):
            self._broken(client, "the app's answer is not HTTP/1.1")

    def _first(self, client: ResponseReceiver, answer: head.ResponseHead, data: bytes) -> None:
        framing = answer.framing
        if framing is head.CHUNKED:
            self._framing, self._decoder = framing, chunked.Decoder()
            client.answer(answer, b"", False)
            if data and self.client is client:
                self._chunks(client, data)
            return
        if framing is head.UNTIL_CLOSE:
            self._framing = framing
            return client.answer(answer, data, False)
        wanted = answer.length if framing is head.LENGTH else 0
        if len(data) > wanted:
            data, self._reusable = data[:wanted], False  # more than it announced: not to be trusted again
        self._left = wanted - len(data)
        self._framing = head.LENGTH if self._left else None
        client.answer(answer, data, not self._left)

    def _counted(self, client: ResponseReceiver, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return client.answer_body(data)
        if left:
            data, self._reusable = data[:left], False
        self._left, self._framing = 0, None
        client.answer_body(data)
        if self.client is client:
            client.answer_end([])

    def _chunks(self, client: ResponseReceiver, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            pieces = decoder.feed(data)
            trailers = decoder.trailers if decoder.done else []
        except BadMessage as fault:
            return self._broken(client, fault.reason)
        if decoder.done:
            self._framing = self._decoder = None
            if decoder.rest:
                self._reusable = False
        if pieces:
            client.answer_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if decoder.done and self.client is client:
            client.answer_end(trailers)

    def _broken(self, client: ResponseReceiver, reason: str) -> None:
        self.client = None
        self.close()
        client.answer_failed(reason)


class Pool:
    """The idle connections to one app, the last used first, and the way to new ones. ``replays``: see
    ``head.AnswerParser``; ``named``: what it is called in reasons."""

    def __init__(self, host: str, port: int, *, replays: bool = False, named: str = APP) -> None:
        self.host, self._port, self.replays, self.named = host, port, replays, named
        self._idle: list[AppConnection] = []
        self._all: set[AppConnection] = set()

    def idle(self, *, repeatable: bool) -> AppConnection | None:
        """A connection that can be used at once; a request which is not ``repeatable`` gets only a fresh one."""
        while self._idle:
            connection = self._idle[-1]
            if not connection.alive or connection.expired:
                self._idle.pop()
                connection.close()
                continue
            if not repeatable and monotonic() - connection.since > FRESH_SECONDS:
                return None
            return self._idle.pop()
        return None

    async def dial(self) -> AppConnection:
        """A new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: AppConnection(self), self.host, self._port)
        self._all.add(connection)
        return connection

    def take_back(self, connection: AppConnection) -> None:
        if len(self._idle) < KEEP_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: AppConnection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Cuts every connection."""
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
