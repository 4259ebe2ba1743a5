"""Why the Machines API did not do what it was asked. Each says what to do; none has anything of the token in it."""

from flyatc.kit.errors import FlyatcError


class ApiError(FlyatcError):
    """Root of them. ``done``: it may have been done all the same."""

    done = False


class NoToken(ApiError):
    """There is none, or it is not accepted, or may not do this (401, 403)."""


class Refused(ApiError):
    """400, 422 and what else is no use to repeat: a fault in what was asked, no capacity, a limit of the account."""


class NotFound(ApiError):
    """404: there is no such app, machine, volume or lease."""


class Conflict(ApiError):
    """409, 412: somebody has a lease on the machine, or its state does not allow it."""


class NameTaken(Conflict):
    """A machine of this name is there already. ``machine``: its id, where it is told."""

    def __init__(self, text: str, machine: str | None) -> None:
        super().__init__(text)
        self.machine = machine


class TooMany(ApiError):
    """429, to the last try."""


class Away(ApiError):
    """Not reached, no answer in time, 5xx, or an answer which cannot be read."""

    def __init__(self, text: str, *, done: bool) -> None:
        super().__init__(text)
        self.done = done


class TooSlow(ApiError):
    """408: what was waited for has not come in time, such as the state of a machine."""
