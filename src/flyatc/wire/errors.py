"""What can be wrong with a message, and the status which says so."""

from flyatc.kit.errors import FlyatcError


class BadMessage(FlyatcError):
    """A peer sent what HTTP/1.1 does not allow, or more than we take. ``status`` is the answer for a visitor."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
