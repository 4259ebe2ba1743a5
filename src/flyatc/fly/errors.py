"""Why a question to the DNS has no answer. What is surely absent, and what is not known, are different things."""

from flyatc.kit.errors import FlyatcError


class Absent(FlyatcError):
    """There is surely no such record."""


class NoSuchName(Absent):
    """NXDOMAIN."""


class NoRecords(Absent):
    """The name exists; a record of this kind does not."""


class Unanswered(FlyatcError):
    """Not known now."""


class TimedOut(Unanswered):
    """No server has answered in time."""


class ServerFailed(Unanswered):
    """SERVFAIL, REFUSED, an answer that cannot be read, or no server to ask."""
