"""Where a user is served: here, by another machine, or not at all; and why. Pure: what was looked up is told.

The rungs, from top to bottom: who owns him is asked first of all and not here, since it costs nothing; the file's pin;
the names in the platform's DNS; the record of the last owner; the Machines API; nobody. A rung which says nothing
returns None.
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
    """``advice``: what a person may do where the target cannot be reached."""

    target: Target
    reason: str
    advice: str = ""

    @property
    def explanation(self) -> str:
        """For who cannot be sent there."""
        return ". ".join(filter(None, (self.reason, self.advice)))


@dataclass(frozen=True, slots=True)
class Nowhere:
    """``status``: 404 where nobody is to serve him, 503 where that is not known now. ``soon``: his machine is being
    made."""

    status: int
    reason: str
    soon: bool = False


Place = Here | There | Nowhere
CROWDED = Nowhere(503, "more users whom nobody knows are asked for than are looked up")
UNPIN = "If that is gone for good, name another there, or none: then whoever is asked takes him over"


def pinned(me: Machine, pin: Pin | None) -> Place | None:
    """The file names his machine or his region. Here for a region: other rungs may know which machine of it."""
    if pin is None:
        return None
    to = Target(me.app, id=pin.machine, region=pin.region)
    if not to.is_at(me):
        return There(to, f"tenants.yaml pins him to {to}", UNPIN)
    return Here("tenants.yaml pins him to this machine") if pin.machine is not None else None


def named(me: Machine, found: dns_answers.LookupResult) -> Place | None:
    """A machine has him in its metadata."""
    return at(me, found) if isinstance(found, dns_answers.Found) else None


def at(me: Machine, found: dns_answers.Found) -> Here | There:
    to = Target(me.app, id=found.machine)
    return Here(found.why) if to.is_at(me) else There(to, found.why)


class Last(Enum):
    """What is known of the machine which had a user last, or is to have him next."""

    EXPECTED = "it may be asleep"
    GONE = "it does not exist any more"
    DEAD = "it cannot be reached"


def recorded(me: Machine, owner: Owner | None, last: Last, pin: Pin | None) -> Place | None:
    """The machine which he was released to, else the last owner. It may be asleep, and is woken rather than robbed:
    what an owner has on his disk is the newest. Where that is hopeless we try; and take the user only if his owner's
    session has ended. ``last``: of that machine; ``pin``: to our region, or none."""
    if owner is None:
        return None
    holder, awaited = owner.holder, owner.awaited
    told = f"{holder} had him last" if owner.to is None else f"{holder} has released him to {owner.to}"
    to = target(f"{awaited.app}/{awaited.machine}")
    if to is None or to.is_at(me):
        return Here(told if to is not None else f"{told}, and {awaited} is none of Fly")
    if owner.to is None and owner.state is State.RELEASED and owner.data.fence:
        return Here(f"{told}, and an operator has released him since")
    if last is not Last.EXPECTED:
        return Here(f"{told}, and {last.value}")
    if pin is not None and owner.to is None and owner.state is State.RELEASED and holder.region != pin.region:
        return Here(f"{told}, and tenants.yaml pins him to {pin}")
    return There(to, told)


def removed(owner: Owner | None) -> Nowhere | None:
    """The user was removed: no machine serves it, whatever other sources say."""
    if owner is None or owner.state is not State.REMOVED:
        return None
    return Nowhere(404, "the user was removed: flyatc users add adds it again")


def absent(dns: dns_answers.LookupResult, listed: dns_answers.LookupResult | None) -> dns_answers.LookupResult:
    """What is known of a user whom neither has told. ``listed``: by the Machines API, where it can be asked; it knows
    the machines which sleep as well, and so its word is the last."""
    if listed is None or isinstance(listed, dns_answers.Unknown):
        return listed or dns
    if isinstance(listed, dns_answers.Absent) and listed.stale and isinstance(dns, dns_answers.Unknown):
        return dns
    return listed


def unowned(found: dns_answers.LookupResult, *, invited: bool) -> Place:
    """Nobody has ever had him. ``found``: a machine only if it cannot be reached. ``invited``: the file names him, or
    pins him to where we are: then any machine may have him which is asked. Others must have one."""
    if isinstance(found, dns_answers.Found):
        return Here(f"nobody has had him yet, and though {found.why}, that one cannot be reached")
    if isinstance(found, dns_answers.Unknown):
        return Nowhere(503, f"nobody has had him yet, and whether a machine is meant for him is unknown: {found.why}")
    if invited:
        return Here("nobody has had him yet")
    return Nowhere(404, f"nobody has him: {found.why}")


def unless_reserved(place: Place, only: str) -> Place:
    """On a machine which is ``only``'s, for another user."""
    if isinstance(place, Here):
        return Nowhere(503, f"{place.reason}; but this machine serves {only} only")
    return place


def refusal(to: Target, me: Machine, source: Source, failed: Failed | None) -> str | None:
    """Why the request is not to be sent on; None: it is."""
    if failed is not None:
        return f"Fly Proxy could not reach {to}: {failed}"
    if source.hops >= MOST_HOPS:
        return f"it has been replayed {source.hops} times: the machines do not agree on where it belongs"
    if to.is_at(me):
        return f"{to} is this one, which cannot serve him now"
    return None
