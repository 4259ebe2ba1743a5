"""Why a tenant cannot serve, or cannot be found. Fields, not text: the edge makes answers of them."""

from flyatc.kit.errors import FlyatcError


class Unavailable(FlyatcError):
    """The tenant cannot serve here and now.

    ``reason``: a sentence for the log. ``retry_after``: seconds until another try makes sense. ``owner``: the machine
    to ask instead, if there is one.
    """

    def __init__(self, tenant: str, reason: str, retry_after: float, owner: str | None = None) -> None:
        super().__init__(tenant, reason, retry_after, owner)
        self.tenant, self.reason, self.retry_after, self.owner = tenant, reason, retry_after, owner

    def __str__(self) -> str:
        return f"{self.tenant}: {self.reason}"


class NotReadyInTime(Unavailable):
    """``start_timeout`` has passed; so has the patience with a former life that does not end."""


class Queued(Unavailable):
    """It waits for its turn among ``limits.starting``. ``place``: in line, 1 is the next."""

    def __init__(self, tenant: str, reason: str, retry_after: float, place: int) -> None:
        super().__init__(tenant, reason, retry_after)
        self.place = place


class Full(Unavailable):
    """``limits.running`` apps run, and none of them became idle in time."""


class Failed(Unavailable):
    """The app did not start or keeps crashing, or an earlier failure's back-off is not over."""


class Unsafe(Unavailable):
    """Its databases cannot be vouched for now (kit.errors.RestoreRefused): nothing was started, nothing was written."""


class Elsewhere(Unavailable):
    """Another machine may write its user's databases: that one serves."""


class NoSuchUser(Unavailable):
    """The user was removed: no machine serves it."""


class Stopping(Unavailable):
    """The daemon is going away."""


class Removed(Unavailable):
    """A reload took it out of the configuration."""


class NoSuchTenant(FlyatcError):
    """``address`` names no tenant; ``nearest`` is what may have been meant."""

    def __init__(self, address: str, nearest: str | None) -> None:
        super().__init__(address, nearest)
        self.address, self.nearest = address, nearest

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else "; flyatc status lists them"
        return f"there is no tenant {self.address!r}{hint}"
