"""Queries and bodies of the control API. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from flyatc.control.types import LONGEST_HOLD
from flyatc.cost.usage import KEPT
from flyatc.databases.decisions.version_choice import Choice, Moment, OrphanChoice
from flyatc.kit.errors import FlyatcError


class BadRequest(FlyatcError):
    """The request is not what the route takes. ``status``: of the response."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Nothing(Struct, frozen=True):
    """No parameters; a body is ignored."""


class Target(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of commands on a tenant. ``address``: ``bellevue/2025/winter``. ``database`` None: all. At most one of
    ``version``, ``at`` (Unix time) and ``orphan`` (its name); none: the current version."""

    address: str
    database: str | None = None
    version: str | None = None
    at: float | None = None
    orphan: str | None = None

    @property
    def choice(self) -> Choice:
        """The version to restore. Raises BadRequest if more than one is given."""
        if sum(one is not None for one in (self.version, self.at, self.orphan)) > 1:
            raise BadRequest("version, at and orphan: one of them at most")
        if self.at is not None:
            return Moment(self.at)
        return self.version if self.orphan is None else OrphanChoice(self.orphan)


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of commands on a scope. ``address`` None: all tenants."""

    address: str | None = None


class MaintenanceRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``message``: shown to clients; None: the default text."""

    closed: bool
    address: str | None = None
    message: str | None = None


class PauseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``limit``: longest wait of a request, in seconds."""

    limit: Annotated[float, Meta(gt=0, le=LONGEST_HOLD)]
    address: str | None = None


class ReleaseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``to``: the next holder, a machine of our app; None: any. ``remove``: no machine may hold the user."""

    user: str
    to: str | None = None
    remove: bool = False


class RouteQuery(Struct, frozen=True):
    """``path``: a path or a URL."""

    path: str


class AddressQuery(Struct, frozen=True):
    """``pasted``: an address, a path or a URL."""

    pasted: str


class TenantsQuery(Struct, frozen=True):
    """``user`` None: all."""

    user: str | None = None


class TenantQuery(Struct, frozen=True):
    """``address``: of a tenant."""

    address: str


class HistoryQuery(Struct, frozen=True):
    """``database`` None: all of the tenant."""

    address: str
    database: str | None = None


class UsageQuery(Struct, frozen=True):
    """``days``: at most so many, up to now."""

    days: Annotated[int, Meta(ge=1, le=KEPT)] = 30


class LogsQuery(Struct, frozen=True):
    """The last ``lines`` of a tenant or user (None: of all); ``follow``: and all that come."""

    address: str | None = None
    lines: Annotated[int, Meta(ge=0, lt=10**9)] = 100
    follow: bool = False
