"""The failures of one run: what is logged, what clients that waited get, and how long the tenant is in back-off."""

import asyncio

from flyatc.config.schema import Tenant as Spec
from flyatc.kit.errors import HeldElsewhere, OwnershipUnknown, RestoreRefused, SaveFailed
from flyatc.observe.log import EventLog
from flyatc.tenants.errors import Elsewhere, Failed, Full, NoSuchUser, NotReadyInTime, Unavailable, Unsafe, reason_of
from flyatc.tenants.interfaces import Child
from flyatc.tenants.newcomers import TooManyNewcomers
from flyatc.tenants.run_history import Failure, Record, StateTracker
from flyatc.tenants.state import State

ELSEWHERE_RETRY = 2.0  # seconds for which another machine's lease is remembered
FULL_RETRY = 5.0  # seconds; Retry-After where no place is free


class RunRefusals:
    """``refusal``: the error for requests that waited for this run. ``has_place``: it has its place among
    limits.running. ``child``: its app, whose last output is logged."""

    def __init__(self, spec: Spec, log: EventLog, record: Record, tracker: StateTracker) -> None:
        self._spec, self._log, self._record, self._tracker = spec, log, record, tracker
        self.refusal: Failure | None = None
        self.has_place = False
        self.child: Child | None = None

    def stopped(self, error: Exception) -> None:
        """Handle the error of a run that was being stopped."""
        if isinstance(error, SaveFailed):
            self.saved(str(error))
        elif not isinstance(error, TimeoutError):  # by which ``Run.stop`` cuts the start short
            self.log("error while it was stopped", reason=str(error) or repr(error))

    def start_failed(self, error: Exception, *, late: bool) -> None:
        """Handle the error that ended the start. ``late``: it is the end of ``start_timeout``. SaveFailed: the start
        was cut short, and what was prepared for the app could not be saved."""
        if isinstance(error, SaveFailed):
            self.saved(str(error))
        if isinstance(error, HeldElsewhere):
            return self.served_elsewhere(error)
        if isinstance(error, TooManyNewcomers):
            self.refusal = Failure(Full, self._spec.address, str(error), _now() + FULL_RETRY)
            return
        if late:
            kind: type[Unavailable] = Full if self._waits_for_place else NotReadyInTime
            reason = self.late()
        else:
            kind = Unsafe if isinstance(error, RestoreRefused | OwnershipUnknown) else Failed
            reason = str(error) or repr(error)
        self.log("the start failed", kind=kind.__name__, reason=reason)
        if kind is Full:
            self.refusal = Failure(Full, self._spec.address, reason, _now() + FULL_RETRY)
        else:
            self.refuse(kind, reason, self._record.setbacks.start_failed(_now()))

    def served_elsewhere(self, error: HeldElsewhere) -> None:
        address, until = self._spec.address, _now() + ELSEWHERE_RETRY
        if error.removed:
            self._log.event("info", "the user was removed", tenant=address, reason=str(error))
            self.refusal = self._record.failure = Failure(NoSuchUser, address, str(error), until)
            return
        self._log.event("info", "served elsewhere", tenant=address, owner=error.machine, reason=str(error))
        self.refusal = self._record.failure = Failure(Elsewhere, address, str(error), until, error.machine)

    def crashed(self, child: Child) -> None:
        self._record.crashes += 1
        reason = f"the app ended by itself: {child.exit}"
        self.log("the app ended by itself", exit=str(child.exit))
        seconds = self._record.setbacks.crashed(_now())
        if seconds:
            self.refuse(Failed, f"{reason}, again and again", seconds)

    def refuse(self, kind: type[Unavailable], reason: str, seconds: float) -> None:
        address = self._spec.address
        self.refusal = self._record.failure = Failure(kind, address, reason_of(reason, address), _now() + seconds)

    def saved(self, unsaved: str | None, *, lost: bool = False) -> None:
        """Record the result of the save. ``unsaved``: why the store may lack data; None: it has everything. ``lost``:
        the local copy is."""
        if unsaved is None:
            self._record.saved()
            return
        self._record.not_saved(reason_of(unsaved, self._spec.address))
        message = "not saved: the local copy is " + ("lost" if lost else "kept")
        self._log.event("error", message, tenant=self._spec.address, reason=unsaved)

    def late(self) -> str:
        seconds = self._spec.app.start_timeout
        if self._waits_for_place:
            return f"no place among limits.running became free within {seconds:g} s"
        seen = self.child.probe if self.child is not None and self._tracker.state is State.STARTING else None
        what = "" if seen is None else f". The last try, {seen}"
        return f"not ready within start_timeout ({seconds:g} s); it was {self._tracker.state}{what}"

    @property
    def _waits_for_place(self) -> bool:
        return self._tracker.state is State.OWNING and not self.has_place

    def log(self, message: str, **fields: str) -> None:
        end = self.child.exit if self.child is not None else None
        output = list(end.output) if end is not None else []
        self._log.event("error", message, tenant=self._spec.address, output=output, **fields)


def _now() -> float:
    return asyncio.get_running_loop().time()
