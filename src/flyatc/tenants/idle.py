"""Choose the tenants to stop for idleness, restart or eviction. Pure: snapshots and ``now`` in, decisions out.

Work without requests keeps an app running too (see ``background_work``). It costs system calls to find, so a tenant is
looked at only when it is due: at half of its idle time, and at its end."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from flyatc.config.schema import App
from flyatc.kit import units
from flyatc.tenants.state import State

MOMENT = 1.0  # seconds without requests after which a changed tenant is restarted


@dataclass(frozen=True, slots=True)
class Seen:
    """Result of the looks at an app's work. Times are the loop's clock. ``counts``: work counts at all; ``most``:
    seconds without requests after which it does not count any more."""

    counts: bool = False
    most: float = math.inf
    active_at: float = -math.inf  # its last work
    first_at: float = -math.inf  # the look that later ones are compared with
    quiet_at: float = -math.inf  # the last look that found no work
    looking: bool = False
    reason: str | None = None  # the work that keeps it running; None: none since the last look


UNSEEN = Seen()


def first_look(app: App) -> float:
    """Return the seconds without requests until the tenant must be considered."""
    if not app.idle:
        return math.inf
    return app.idle / 2 if counts_work(app) else app.idle


def counts_work(app: App) -> bool:
    return bool({*app.idle_counts} - {"requests"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    tenant: str  # its address
    state: State
    requests: int  # in flight, and waiting to be served
    quiet_since: float  # the loop's clock when the last request or command ended
    idle: float  # seconds; 0: never stop
    changed: bool  # runs with an older configuration
    newcomer: bool = False  # its user is not in tenants.yaml and had no data or lease record before
    seen: Seen = UNSEEN
    commands: int = 0  # of operators, beside the app

    @property
    def quiet(self) -> bool:
        return self.state is State.READY and not self.requests and not self.commands

    @property
    def idle_at(self) -> float:
        """Time to stop it unless a request arrives, or more work is seen; inf: never."""
        if not self.quiet or not self.idle:
            return math.inf
        since = max(self.quiet_since, self.seen.active_at)
        return min(since + self.idle, self.quiet_since + max(self.seen.most, self.idle))

    @property
    def look_at(self) -> float:
        """Time of the next look at its work; inf: none is needed before it is stopped."""
        seen, idle_at = self.seen, self.idle_at
        if not seen.counts or seen.looking or idle_at == math.inf or seen.quiet_at >= idle_at:
            return math.inf
        since, half = max(self.quiet_since, seen.active_at), self.idle / 2
        if seen.first_at < since:
            return since + half
        return max(idle_at, seen.first_at + half)

    @property
    def stop_at(self) -> float:
        """Time of the next stop for idleness, as far as it is known without a look; inf: not known."""
        seen = self.seen
        if not seen.counts or seen.quiet_at >= self.idle_at:
            return self.idle_at
        return self.quiet_since + max(seen.most, self.idle) if self.idle_at < math.inf else math.inf

    @property
    def due(self) -> float:
        """Time of the next stop, restart or look; inf: never."""
        soonest = min(self.stop_at, self.look_at)
        return min(soonest, self.quiet_since + MOMENT) if self.changed and self.quiet else soonest


@dataclass(frozen=True, slots=True)
class Stop:
    tenant: str
    why: str
    again: bool  # start it again at once


@dataclass(frozen=True, slots=True)
class Look:
    """Look at the work of the tenant's app now."""

    tenant: str


def sweep(snapshots: Iterable[Snapshot], now: float) -> tuple[list[Stop | Look], float]:
    """Return what to do now, and the time of the next sweep (inf: only after a change)."""
    steps: list[Stop | Look] = []
    later = math.inf
    for one in snapshots:
        if one.stop_at <= now:
            steps.append(Stop(one.tenant, _why(one), again=False))
        elif one.due > now:
            later = min(later, one.due)
        elif one.look_at <= now and not one.changed:
            steps.append(Look(one.tenant))
        else:
            steps.append(Stop(one.tenant, "its configuration has changed", again=True))
    return steps, later


def _why(one: Snapshot) -> str:
    if one.seen.reason is not None:
        return f"no request for {units.human_seconds(max(one.seen.most, one.idle))} (idle_most); {one.seen.reason}"
    return f"no request for {units.human_seconds(one.idle)}"


def tenant_to_evict(snapshots: Iterable[Snapshot], *, newcomer: bool) -> str | None:
    """Return the idle app to stop for another, or None: newcomers' first, then those without work, then the one that is
    idle for the longest. ``newcomer``: the place is for a newcomer. It may replace only other newcomers, since anyone
    can invent names."""
    quiet = [one for one in snapshots if one.quiet]
    quiet.sort(key=lambda one: (not one.newcomer, one.seen.reason is not None, one.quiet_since))
    if not quiet or (newcomer and not quiet[0].newcomer):
        return None
    return quiet[0].tenant
