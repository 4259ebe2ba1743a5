"""States of a tenant, the table of their transitions, and the status for operators. Pure: no loop, clock or I/O."""

import enum

from msgspec import Struct


class State(enum.StrEnum):
    STOPPED = "stopped"  # nothing runs, nothing is held; the next request starts it
    OWNING = "owning"  # waits for a place among limits.running and for the lease
    RESTORING = "restoring"  # its databases are being made current
    EXECUTING = "executing"  # commands of flyatc exec run, without the app
    QUEUED = "queued"  # its databases are current; it waits for its turn among limits.starting
    PREPARING = "preparing"  # the commands of app.before_start run
    STARTING = "starting"  # the app is spawned and does not respond yet
    READY = "ready"
    DRAINING = "draining"  # requests in flight may finish; new ones wait for the next run
    SAVING = "saving"  # the app is ended, then its databases are saved
    FAILED = "failed"  # like stopped, but the last run failed and requests are refused for a while


NEXT: dict[State, frozenset[State]] = {
    State.STOPPED: frozenset({State.OWNING}),
    State.OWNING: frozenset({State.RESTORING, State.STOPPED, State.FAILED}),
    State.RESTORING: frozenset(
        {
            State.EXECUTING,
            State.QUEUED,
            State.PREPARING,
            State.STARTING,
            State.SAVING,
            State.STOPPED,
            State.FAILED,
        }
    ),
    State.EXECUTING: frozenset({State.QUEUED, State.PREPARING, State.STARTING, State.SAVING}),
    State.QUEUED: frozenset({State.PREPARING, State.STARTING, State.SAVING}),
    State.PREPARING: frozenset({State.STARTING, State.SAVING}),
    State.STARTING: frozenset({State.READY, State.SAVING}),
    State.READY: frozenset({State.DRAINING, State.SAVING}),
    State.DRAINING: frozenset({State.SAVING}),
    State.SAVING: frozenset({State.STOPPED, State.FAILED}),
    State.FAILED: frozenset({State.OWNING, State.STOPPED}),
}
"""Allowed transitions. Once databases are open, each path to ``failed`` leads through ``saving``."""

START_STATES = frozenset(
    {State.OWNING, State.RESTORING, State.EXECUTING, State.QUEUED, State.PREPARING, State.STARTING}
)
JOINABLE_STATES = START_STATES | {State.READY}  # a new request is served by this run
STOP_STATES = frozenset({State.DRAINING, State.SAVING})  # a new request waits for the next run
INACTIVE_STATES = frozenset({State.STOPPED, State.FAILED})


class Purpose(enum.Enum):
    """The purpose of a run."""

    APP = "app"
    COMMANDS = "commands"  # of operators; the app only if a request wants it
    SAVE = "save"  # of data left unsaved by an earlier run


class InvalidTransition(Exception):
    """A transition that is not in the table: a bug in flyatc."""

    def __init__(self, old: State, new: State) -> None:
        super().__init__(old, new)
        self.old, self.new = old, new

    def __str__(self) -> str:
        return f"{self.new} cannot follow {self.old}"


def check_transition(old: State, new: State) -> State:
    """Return ``new`` if it may follow ``old``. Raises InvalidTransition."""
    if new not in NEXT[old]:
        raise InvalidTransition(old, new)
    return new


class Status(Struct, frozen=True, kw_only=True):
    """Status of a tenant for operators. Times are RFC 3339 in UTC."""

    tenant: str  # its address
    user: str
    state: State
    pid: int | None = None
    port: int | None = None
    isolation: str | None = None  # how the running app is separated: "user 200000, Landlock 7"
    queued: int | None = None  # place in the queue for limits.starting: 1 is the next
    requests: int = 0  # in flight, and waiting to be served
    commands: int = 0  # of flyatc exec, beside the app
    since: str  # when the state last changed
    idle_at: str | None = None  # when it will be stopped unless a request arrives, or it works
    busy: str | None = None  # the work that keeps it running without requests, as last seen
    starts: int = 0
    crashes: int = 0
    last_exit: str | None = None
    reason: str | None = None  # of the last run's failure
    unsaved: bool = False  # the local copy may have changes that the store lacks
    saved_at: str | None = None
    lag: float | None = None  # seconds since the store was up to date; None: nothing runs
    size: int | None = None  # of the local databases
    renewed: dict[str, str] = {}  # databases that litestream had to upload in full again: the last reason
    epoch: int | None = None  # of the lease
    alarms: list[str] = []  # of its databases: warnings for the operator
    overlooked: list[str] = []  # databases that the app uses and flyatc does not save: a sentence each
    gauges: dict[str, float] = {}  # of its databases: numbers for /metrics
    restart_pending: bool = False  # runs with an older configuration until it is idle
