"""Who should be stopped because nobody needs it, and why. Pure: snapshots and ``now`` in, decisions out."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from flyatc.kit import units
from flyatc.tenants.state import State

MOMENT = 1.0  # seconds without visitors after which a changed tenant is restarted


@dataclass(frozen=True, slots=True)
class Snapshot:
    tenant: str  # its address
    state: State
    visitors: int  # in flight, and waiting to be served
    quiet_since: float  # the loop's clock when the last visitor left
    idle: float  # seconds; 0: never stop
    changed: bool  # runs with a former configuration
    newcomer: bool = False  # of a user whom tenants.yaml does not name, and of whom nothing was on record before

    @property
    def quiet(self) -> bool:
        return self.state is State.READY and not self.visitors

    @property
    def idle_at(self) -> float:
        """When it is to be stopped if nobody comes; inf: never."""
        return self.quiet_since + self.idle if self.quiet and self.idle > 0 else math.inf

    @property
    def due(self) -> float:
        """When something is to be done about it; inf: never."""
        if self.changed and self.quiet:
            return min(self.idle_at, self.quiet_since + MOMENT)
        return self.idle_at


@dataclass(frozen=True, slots=True)
class Stop:
    tenant: str
    why: str
    again: bool  # start it again at once


def sweep(snapshots: Iterable[Snapshot], now: float) -> tuple[list[Stop], float]:
    """Who is to be stopped now, and when to look next (inf: when something has changed)."""
    stops: list[Stop] = []
    look = math.inf
    for one in snapshots:
        if one.idle_at <= now:
            stops.append(Stop(one.tenant, f"nobody came for {units.human_seconds(one.idle)}", again=False))
        elif one.due <= now:
            stops.append(Stop(one.tenant, "its configuration has changed", again=True))
        else:
            look = min(look, one.due)
    return stops, look


def to_evict(snapshots: Iterable[Snapshot], *, newcomer: bool) -> str | None:
    """The idle app that makes room for another: a newcomer's first, then the one without requests for the longest time.
    ``newcomer``: room is needed for a newcomer, which takes no place from anybody else: names cost nothing to whoever
    makes them up. None: there is no such app."""
    quiet = sorted((one for one in snapshots if one.quiet), key=lambda one: (not one.newcomer, one.quiet_since))
    if not quiet or (newcomer and not quiet[0].newcomer):
        return None
    return quiet[0].tenant
