"""The life of a tenant, as a table. Pure: no loop, no clock, no I/O.

What people are told of a tenant.
"""

import enum

from msgspec import Struct


class State(enum.StrEnum):
    STOPPED = "stopped"  # nothing runs, nothing is held; the next visitor starts it
    OWNING = "owning"  # takes what a run needs: a place among limits.running
    RESTORING = "restoring"  # its databases are made whole
    QUEUED = "queued"  # its databases are whole; it waits for its turn among limits.starting
    STARTING = "starting"  # the app is spawned and does not answer yet
    READY = "ready"
    DRAINING = "draining"  # visitors in flight may finish; new ones wait for the next life
    SAVING = "saving"  # the app is ended, then its databases are saved
    FAILED = "failed"  # like stopped, but the last life went wrong and requests are refused for a while


NEXT: dict[State, frozenset[State]] = {
    State.STOPPED: frozenset({State.OWNING}),
    State.OWNING: frozenset({State.RESTORING, State.STOPPED, State.FAILED}),
    State.RESTORING: frozenset({State.QUEUED, State.STARTING, State.SAVING, State.STOPPED, State.FAILED}),
    State.QUEUED: frozenset({State.STARTING, State.SAVING}),
    State.STARTING: frozenset({State.READY, State.SAVING}),
    State.READY: frozenset({State.DRAINING, State.SAVING}),
    State.DRAINING: frozenset({State.SAVING}),
    State.SAVING: frozenset({State.STOPPED, State.FAILED}),
    State.FAILED: frozenset({State.OWNING, State.STOPPED}),
}
"""What may follow what. Once databases are held, each way to ``failed`` leads through ``saving``."""

START_STATES = frozenset({State.OWNING, State.RESTORING, State.QUEUED, State.STARTING})
JOINABLE_STATES = START_STATES | {State.READY}  # who comes now is served by this life
STOP_STATES = frozenset({State.DRAINING, State.SAVING})  # who comes now waits for the next life
INACTIVE_STATES = frozenset({State.STOPPED, State.FAILED})


class InvalidTransition(Exception):
    """A change which is not in the table: a bug in flyatc."""

    def __init__(self, old: State, new: State) -> None:
        super().__init__(old, new)
        self.old, self.new = old, new

    def __str__(self) -> str:
        return f"{self.new} cannot follow {self.old}"


def follow(old: State, new: State) -> State:
    """``new``, where it may follow ``old``. Raises Impossible."""
    if new not in NEXT[old]:
        raise InvalidTransition(old, new)
    return new


class Status(Struct, frozen=True, kw_only=True):
    """Times are RFC 3339 in UTC."""

    tenant: str  # its address
    user: str
    state: State
    pid: int | None = None
    port: int | None = None
    queued: int | None = None  # place in line for limits.starting: 1 is the next
    visitors: int = 0  # in flight, and waiting to be served
    since: str  # when the state last changed
    idle_at: str | None = None  # when it will be stopped if nobody comes
    starts: int = 0
    crashes: int = 0
    last_exit: str | None = None
    reason: str | None = None  # of the last life's failure
    unsaved: bool = False  # the local copy may have something which the store has not
    saved_at: str | None = None
    lag: float | None = None  # seconds since the store had everything; None: nothing runs
    octets: int | None = None  # of the local databases
    renewed: dict[str, str] = {}  # databases of which litestream had to send all again, and why the last time
    epoch: int | None = None  # of the ownership
    alarms: list[str] = []  # of its databases: what the operator should know
    gauges: dict[str, float] = {}  # of its databases: numbers for /metrics
    restart_pending: bool = False  # runs with a former configuration until it is idle
