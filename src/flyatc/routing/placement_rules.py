"""Decide where a user is served: here, by another machine, or not at all; and why. Pure: lookup results are arguments.

The rules, in order of precedence: the lease held by this machine (checked by the caller first, since it costs nothing);
the pin in tenants.yaml; the platform's DNS; the record of the last owner; the Machines API; no machine. A rule that
does not apply returns None.
"""

from dataclasses import dataclass
from enum import Enum

from flyatc.config.schema import Pin
from flyatc.fly import dns_answers
from flyatc.fly.environment import Machine
from flyatc.ownership.record import Owner, State
from flyatc.routing.replay import MOST_HOPS, Failed, Source, Target, target


@dataclass(frozen=True, slots=True)
class Here:
    reason: str


@dataclass(frozen=True, slots=True)
class There:
    """``advice``: what an operator can do if the target cannot be reached."""

    target: Target
    reason: str
    advice: str = ""

    @property
    def explanation(self) -> str:
        """Reason and advice, for a client that cannot be sent there."""
        return ". ".join(filter(None, (self.reason, self.advice)))


@dataclass(frozen=True, slots=True)
class Nowhere:
    """``status``: 404 if no machine is to serve the user, 503 if that is not known now. ``soon``: the user's machine is
    being created."""

    status: int
    reason: str
    soon: bool = False


Place = Here | There | Nowhere
CROWDED = Nowhere(503, "too many lookups of unknown users")
UNPIN = "If it is gone for good, pin another machine or remove the pin: then the machine that is asked takes over"


def pinned(me: Machine, pin: Pin | None) -> Place | None:
    """The machine or region pinned in tenants.yaml.

    None also for a pin to this machine's region: later rules may know which machine of the region serves the user."""
    if pin is None:
        return None
    to = Target(me.app, id=pin.machine, region=pin.region)
    if not to.is_at(me):
        return There(to, f"tenants.yaml pins the user to {to}", UNPIN)
    return Here("tenants.yaml pins the user to this machine") if pin.machine is not None else None


def named(me: Machine, found: dns_answers.LookupResult) -> Place | None:
    """The machine whose metadata names the user."""
    return at(me, found) if isinstance(found, dns_answers.Found) else None


def at(me: Machine, found: dns_answers.Found) -> Here | There:
    to = Target(me.app, id=found.machine)
    return Here(found.why) if to.is_at(me) else There(to, found.why)


class Last(Enum):
    """State of the machine that last owned a user, or that the user was released to."""

    EXPECTED = "it may be asleep"
    GONE = "it no longer exists"
    DEAD = "it cannot be reached"


def recorded(me: Machine, owner: Owner | None, last: Last, pin: Pin | None) -> Place | None:
    """The machine that the user was released to, else the last owner.

    That machine may be asleep. It is woken rather than bypassed, since its disk has the newest data. If it cannot be
    reached, the user is served here, provided that the owner's session has ended. ``last``: state of that machine;
    ``pin``: to our region, or None."""
    if owner is None:
        return None
    holder, awaited = owner.holder, owner.awaited
    reason = f"{holder} had the user last" if owner.to is None else f"{holder} has released the user to {owner.to}"
    to = target(f"{awaited.app}/{awaited.machine}")
    if to is None or to.is_at(me):
        return Here(reason if to is not None else f"{reason}, and {awaited} is not a Fly machine")
    if owner.to is None and owner.state is State.RELEASED and owner.data.fence:
        return Here(f"{reason}, and an operator has released the user since")
    if last is not Last.EXPECTED:
        return Here(f"{reason}, and {last.value}")
    if pin is not None and owner.to is None and owner.state is State.RELEASED and holder.region != pin.region:
        return Here(f"{reason}, and tenants.yaml pins the user to {pin}")
    return There(to, reason)


def removed(owner: Owner | None) -> Nowhere | None:
    """The user was removed: no machine serves it, whatever other sources say."""
    if owner is None or owner.state is not State.REMOVED:
        return None
    return Nowhere(404, "the user was removed: flyatc users add adds it again")


def absent(dns: dns_answers.LookupResult, listed: dns_answers.LookupResult | None) -> dns_answers.LookupResult:
    """Combine negative DNS and API results.

    ``listed``: the result of the Machines API, or None if it cannot be asked. It takes precedence, since it also knows
    sleeping machines, except that an outdated Absent does not override an Unknown of the DNS."""
    if listed is None or isinstance(listed, dns_answers.Unknown):
        return listed or dns
    if isinstance(listed, dns_answers.Absent) and listed.stale and isinstance(dns, dns_answers.Unknown):
        return dns
    return listed


def unowned(found: dns_answers.LookupResult, *, invited: bool) -> Place:
    """Placement of a user that no machine has ever owned.

    ``found``: a machine only if it cannot be reached. ``invited``: tenants.yaml lists the user, or pins the user here:
    then any machine that is asked may take the user. Other users must have a machine of their own."""
    if isinstance(found, dns_answers.Found):
        return Here(f"no machine has had the user yet, and though {found.why}, it cannot be reached")
    if isinstance(found, dns_answers.Unknown):
        why = f"no machine has had the user yet, and whether one is meant for the user is unknown: {found.why}"
        return Nowhere(503, why)
    if invited:
        return Here("no machine has had the user yet")
    return Nowhere(404, f"no machine has the user: {found.why}")


def unless_reserved(place: Place, only: str) -> Place:
    """Refuse to serve the user here: this machine is reserved for ``only``, another user."""
    if isinstance(place, Here):
        return Nowhere(503, f"{place.reason}; but this machine serves {only} only")
    return place


def refusal(to: Target, me: Machine, source: Source, failed: Failed | None) -> str | None:
    """The reason not to replay or forward the request, or None."""
    if failed is not None:
        return f"Fly Proxy could not reach {to}: {failed}"
    if source.hops >= MOST_HOPS:
        return f"it has been replayed {source.hops} times: the machines do not agree on where it belongs"
    if to.is_at(me):
        return f"{to} is this machine, which cannot serve the user now"
    return None
