"""Whether a request may reach the app of its tenant now, or why not. Pure.

A word is said of a scope: an address, a user, or EVERYTHING. Maintenance wins over a pause, whichever of them has the
narrower scope: who is to be sent away need not wait for that. Among words of one kind the nearest counts.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

EVERYTHING = "*"


class Pause(Struct, frozen=True):
    """``limit``: how many seconds a request is held at most. ``since``: Unix time."""

    limit: float
    since: float


class Closed(NamedTuple):
    """For maintenance. ``message``: what visitors are told."""

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
    """None: nothing is in its way."""
    scopes = (address, address.partition("/")[0], EVERYTHING)
    for scope in scopes:
        if scope in closed:
            return Closed(scope, closed[scope])
    for scope in scopes:
        if scope in paused:
            return Paused(scope, paused[scope])
    return None


def refusal(found: Paused, *, waited: float, held: int, most: int) -> str | None:
    """Why a paused request is not to be held; None: it is. ``waited``: seconds so far; ``held``: others."""
    if waited >= found.pause.limit:
        return late(found)
    if held >= most:
        return f"{found.reason}: {held} requests are held already, which is limits.held"
    return None


def late(found: Paused) -> str:
    """Why a request is held no longer."""
    return f"{found.reason}: not resumed within {found.pause.limit:g} s"


def covers(scope: str, address: str) -> bool:
    """Whether a word said of the scope concerns this tenant."""
    return scope in (EVERYTHING, address, address.partition("/")[0])


def named(scope: str) -> str:
    return "everything" if scope == EVERYTHING else scope
