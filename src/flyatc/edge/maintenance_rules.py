"""Rules for maintenance and pauses: which one applies to a request. Pure.

A rule has a scope: a tenant's address, a user, or EVERYTHING. Maintenance beats a pause, whatever their scopes: a
request that will be refused need not wait for that. Among rules of one kind the narrowest wins.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

EVERYTHING = "*"


class Pause(Struct, frozen=True):
    """A pause. ``limit``: seconds for which a request is held at most. ``since``: Unix time."""

    limit: float
    since: float


class Closed(NamedTuple):
    """Maintenance. ``message``: the text shown to clients."""

    scope: str
    message: str

    @property
    def reason(self) -> str:
        return f"closed for maintenance ({named(self.scope)})"


class Paused(NamedTuple):
    scope: str
    pause: Pause

    @property
    def reason(self) -> str:
        return f"paused ({named(self.scope)})"


def judge(address: str, closed: Mapping[str, str], paused: Mapping[str, Pause]) -> Closed | Paused | None:
    """Return the rule that applies to the tenant at ``address``, None if there is none."""
    scopes = (address, address.partition("/")[0], EVERYTHING)
    for scope in scopes:
        if scope in closed:
            return Closed(scope, closed[scope])
    for scope in scopes:
        if scope in paused:
            return Paused(scope, paused[scope])
    return None


def refusal(found: Paused, *, waited: float, held: int, most: int) -> str | None:
    """Return why a paused request is refused, None to hold it. ``waited``: seconds so far; ``held``: other requests;
    ``most``: the limit of those."""
    if waited >= found.pause.limit:
        return late(found)
    if held >= most:
        return f"{found.reason}: {held} requests are held already, which is limits.held"
    return None


def late(found: Paused) -> str:
    """Return the reason for refusing a request whose pause lasted too long."""
    return f"{found.reason}: not resumed within {found.pause.limit:g} s"


def covers(scope: str, address: str) -> bool:
    """Return whether a rule of the scope applies to the tenant at ``address``."""
    return scope in (EVERYTHING, address, address.partition("/")[0])


def named(scope: str) -> str:
    """Return the scope as it appears in logs and reasons."""
    return "everything" if scope == EVERYTHING else scope
