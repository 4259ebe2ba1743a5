"""Errors of a tenant that cannot serve or does not exist. The edge builds responses from their fields."""

from flyatc.kit.errors import FlyatcError


def reason_of(error: object, address: str) -> str:
    """Return the text of an error without the tenant's name before each of its sentences: it is shown beside the name.
    The errors of the databases begin with it, since one may concern several tenants."""
    text = f"; {error}".replace(f"; {address}: ", "; ")
    return text.removeprefix("; ")


class Unavailable(FlyatcError):
    """The tenant cannot serve on this machine now.

    ``reason``: a sentence for the log. ``retry_after``: seconds until a retry makes sense. ``owner``: the machine
    that serves instead, if known.
    """

    def __init__(self, tenant: str, reason: str, retry_after: float, owner: str | None = None) -> None:
        super().__init__(tenant, reason, retry_after, owner)
        self.tenant, self.reason, self.retry_after, self.owner = tenant, reason, retry_after, owner

    def __str__(self) -> str:
        return f"{self.tenant}: {self.reason}"


class NotReadyInTime(Unavailable):
    """``start_timeout`` has passed, or the previous run did not end in time."""


class Queued(Unavailable):
    """The tenant is queued by ``limits.starting``. ``place`` in the queue: 1 is the next."""

    def __init__(self, tenant: str, reason: str, retry_after: float, place: int) -> None:
        super().__init__(tenant, reason, retry_after)
        self.place = place


class Full(Unavailable):
    """``limits.running`` apps are running, and none became idle in time."""


class Failed(Unavailable):
    """The app did not start, keeps crashing, or is in back-off after a failure."""


class Unsafe(Unavailable):
    """The databases may not be current (kit.errors.RestoreRefused): nothing was started or written."""


class Elsewhere(Unavailable):
    """Another machine holds the lease of the user's databases and serves it."""


class NoSuchUser(Unavailable):
    """The user was removed: no machine serves it."""


class Stopping(Unavailable):
    """The daemon is shutting down."""


class Removed(Unavailable):
    """A reload removed the tenant from the configuration."""


class NoSuchTenant(FlyatcError):
    """``address`` names no tenant; ``nearest`` is the most similar known address."""

    def __init__(self, address: str, nearest: str | None) -> None:
        super().__init__(address, nearest)
        self.address, self.nearest = address, nearest

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else "; flyatc status lists them"
        return f"there is no tenant {self.address!r}{hint}"
