"""The life of a tenant, as a table. Pure: no loop, no clock, no I/O."""

import enum


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

RISING = frozenset({State.OWNING, State.RESTORING, State.QUEUED, State.STARTING})
WELCOMING = RISING | {State.READY}  # who comes now is served by this life
LEAVING = frozenset({State.DRAINING, State.SAVING})  # who comes now waits for the next life
RESTING = frozenset({State.STOPPED, State.FAILED})


class Impossible(Exception):
    """A change which is not in the table: a bug in flyatc."""

    def __init__(self, old: State, new: State) -> None:
        super().__init__(old, new)
        self.old, self.new = old, new

    def __str__(self) -> str:
        return f"{self.new} cannot follow {self.old}"


def follow(old: State, new: State) -> State:
    """``new``, where it may follow ``old``. Raises Impossible."""
    if new not in NEXT[old]:
        raise Impossible(old, new)
    return new
