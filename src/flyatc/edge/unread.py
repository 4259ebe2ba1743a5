"""A request which waits, its body not yet asked for."""

from flyatc.wire.faults import BadMessage


class Unread:
    """The part of wire.server.Receiver which all that wait have in common: they never called ``Request.receive``."""

    __slots__ = ()

    def body(self, data: bytes) -> None:
        raise AssertionError("nobody has asked for the body yet")

    def body_end(self, trailers: list[bytes]) -> None:
        raise AssertionError("nobody has asked for the body yet")

    def body_failed(self, fault: BadMessage) -> None:
        raise AssertionError("nobody has asked for the body yet")

    def writable(self, ready: bool) -> None:
        """Nothing is written yet but interim answers."""
