"""Choose the tenants to stop for idleness, restart or eviction. Pure: snapshots and ``now`` in, decisions out."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from flyatc.kit import units
from flyatc.tenants.state import State

MOMENT = 1.0  # seconds without requests after which a changed tenant is restarted


@dataclass(frozen=True, slots=True)
class Snapshot:
    tenant: str  # its address
    state: State
    visitors: int  # in flight, and waiting to be served
    quiet_since: float  # the loop's clock when the last request ended
    idle: float  # seconds; 0: never stop
    changed: bool  # runs with an older configuration
    newcomer: bool = False  # its user is not in tenants.yaml and had no data or lease record before

    @property
    def quiet(self) -> bool:
        return self.state is State.READY and not self.visitors

    @property
    def idle_at(self) -> float:
        """Time to stop it unless a request arrives; inf: never."""
        return self.quiet_since + self.idle if self.quiet and self.idle > 0 else math.inf

    @property
    def due(self) -> float:
        """Time of the next stop or restart; inf: never."""
        if self.changed and self.quiet:
            return min(self.idle_at, self.quiet_since + MOMENT)
        return self.idle_at


@dataclass(frozen=True, slots=True)
class Stop:
    tenant: str
    why: str
    again: bool  # start it again at once


def sweep(snapshots: Iterable[Snapshot], now: float) -> tuple[list[Stop], float]:
    """Return the tenants to stop now, and the time of the next sweep (inf: only after a change)."""
    stops: list[Stop] = []
    look = math.inf
    for one in snapshots:
        if one.idle_at <= now:
            stops.append(Stop(one.tenant, f"no request for {units.human_seconds(one.idle)}", again=False))
        elif one.due <= now:
            stops.append(Stop(one.tenant, "its configuration has changed", again=True))
        else:
            look = min(look, one.due)
    return stops, look


def to_evict(snapshots: Iterable[Snapshot], *, newcomer: bool) -> str | None:
    """Return the idle app to stop for another, or None: newcomers' first, then the one that is idle for the longest.
    ``newcomer``: the place is for a newcomer. It may replace only other newcomers, since anyone can invent names."""
    quiet = sorted((one for one in snapshots if one.quiet), key=lambda one: (not one.newcomer, one.quiet_since))
    if not quiet or (newcomer and not quiet[0].newcomer):
        return None
    return quiet[0].tenant
