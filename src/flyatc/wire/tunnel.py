"""Relay bytes between two transports after an upgrade. Half-close passes through; there are no time limits."""

import asyncio
from collections.abc import Callable
from time import monotonic

from flyatc.wire.buffers import READ, Buffers, Reading

WRITE_HIGH = 32768


class Tunnel:
    """A relay between client and app. ``ended(octets_to_client)`` is called once, when both sides are closed.

    ``beside``: octets that are in memory for it, apart from what it relays."""

    __slots__ = ("_beside", "_buffers", "_ended", "_open", "_since", "app", "client", "octets")

    def __init__(
        self,
        client: asyncio.Transport,
        app: asyncio.Transport,
        ended: Callable[[int], None],
        buffers: Buffers,
        beside: int = 0,
    ) -> None:
        self._ended, self._open, self.octets = ended, 2, 0
        self._buffers, self._beside, self._since = buffers, beside, monotonic()
        buffers.tunnels.add(self)
        self.client, self.app = _Side(self, client, app, counts=False), _Side(self, app, client, counts=True)
        for side, transport in ((self.client, client), (self.app, app)):
            transport.set_protocol(side)
            transport.set_write_buffer_limits(high=WRITE_HIGH)
            if not transport.is_reading():
                transport.resume_reading()

    def cut(self) -> None:
        """Close both sides after sending what is written."""
        self.client.close()
        self.app.close()

    def one_lost(self) -> None:
        self._open -= 1
        if not self._open:
            self._buffers.tunnels.discard(self)
            self._ended(self.octets)

    def grown(self) -> None:
        """One side does not take what the other one sends."""
        self._since = monotonic()
        self._buffers.grown(WRITE_HIGH + READ, self)

    # --- of wire.buffers.Holder ---

    def held(self) -> int:
        return self._beside + self.client.held() + self.app.held()

    def still_since(self) -> float:
        return self._since

    def shed(self) -> None:
        self._buffers.tunnels.discard(self)
        self.client.abort()
        self.app.abort()


class _Side(asyncio.BufferedProtocol):
    __slots__ = ("_counts", "_eof", "_other", "_own", "_tunnel")

    def __init__(self, tunnel: Tunnel, own: asyncio.Transport, other: asyncio.Transport, *, counts: bool) -> None:
        self._tunnel, self._own, self._other, self._counts = tunnel, own, other, counts
        self._eof = False

    def get_buffer(self, sizehint: int) -> memoryview:
        return Reading.room

    def buffer_updated(self, octets: int) -> None:
        if self._counts:
            self._tunnel.octets += octets
        self._other.write(bytes(Reading.whole[:octets]))

    def eof_received(self) -> bool:
        self._eof = True
        if self._other.is_closing():
            return False
        self._other.write_eof()
        other = self._other.get_protocol()
        return not (isinstance(other, _Side) and other._eof)  # both have ended: close

    def connection_lost(self, error: Exception | None) -> None:
        if not self._other.is_closing():
            if error is None:
                self._other.close()
            else:
                self._other.abort()
        self._tunnel.one_lost()

    def pause_writing(self) -> None:
        self._other.pause_reading()
        self._tunnel.grown()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def close(self) -> None:
        self._own.close()

    def held(self) -> int:
        return self._own.get_write_buffer_size()

    def abort(self) -> None:
        self._own.abort()
