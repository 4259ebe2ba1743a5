"""The error for a malformed or oversized HTTP message, with the status to respond."""

from flyatc.kit.errors import FlyatcError


class BadMessage(FlyatcError):
    """A peer violated HTTP/1.1, or exceeded a limit. ``status``: of the response to the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
