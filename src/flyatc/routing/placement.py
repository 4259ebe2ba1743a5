"""Where a user is served: here, by another machine, or not at all; and why. Pure: what was looked up is told.

The rungs, from top to bottom: who owns him is asked first of all and not here, since it costs nothing; the file's pin;
the names in the platform's DNS; the record of the last owner; nobody. A rung which says nothing returns None.
"""

from dataclasses import dataclass

from flyatc.config.schema import Pin
from flyatc.fly.machine import Machine
from flyatc.routing.replay import MOST_HOPS, Failed, Source, Target


@dataclass(frozen=True, slots=True)
class Here:
    reason: str


@dataclass(frozen=True, slots=True)
class There:
    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """``status``: 404 where nobody is to serve him, 503 where that is not known now."""

    status: int
    reason: str


Place = Here | There | Nowhere


def pinned(me: Machine, pin: Pin | None) -> Place | None:
    """The file names his machine or his region. Here for a region: other rungs may know which machine of it."""
    if pin is None:
        return None
    to = Target(me.app, id=pin.machine, region=pin.region)
    if not to.is_at(me):
        return There(to, f"tenants.yaml pins him to {to}")
    return Here("tenants.yaml pins him to this machine") if pin.machine is not None else None


def refusal(to: Target, me: Machine, source: Source, failed: Failed | None) -> str | None:
    """Why the request is not to be sent on; None: it is."""
    if failed is not None:
        return f"Fly Proxy could not reach {to}: {failed}"
    if source.hops >= MOST_HOPS:
        return f"it has been replayed {source.hops} times: the machines do not agree on where it belongs"
    if to.is_at(me):
        return f"{to} is this one, which cannot serve him now"
    return None
