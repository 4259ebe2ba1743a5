"""Relay bytes between two transports after an upgrade. Half-close passes through; there are no time limits."""

import asyncio
from collections.abc import Callable

WRITE_HIGH = 65536


class Tunnel:
    """A relay between client and app. ``ended(octets_to_client)`` is called once, when both sides are closed."""

    __slots__ = ("_ended", "_open", "app", "client", "octets")

    def __init__(
        self,
        client: asyncio.Transport,
        app: asyncio.Transport,
        ended: Callable[[int], None],
    ) -> None:
        self._ended, self._open, self.octets = ended, 2, 0
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
            self._ended(self.octets)


class _Side(asyncio.Protocol):
    __slots__ = ("_counts", "_eof", "_other", "_own", "_tunnel")

    def __init__(self, tunnel: Tunnel, own: asyncio.Transport, other: asyncio.Transport, *, counts: bool) -> None:
        self._tunnel, self._own, self._other, self._counts = tunnel, own, other, counts
        self._eof = False

    def data_received(self, data: bytes) -> None:
        if self._counts:
            self._tunnel.octets += len(data)
        self._other.write(data)

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

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def close(self) -> None:
        self._own.close()
