"""Describe one tenant: its snapshot for the idle sweep, and its status for operators."""

import asyncio
import math

from flyatc.config.schema import Tenant as Spec
from flyatc.observe.log import stamp
from flyatc.tenants.idle import UNSEEN, Snapshot
from flyatc.tenants.run import Run
from flyatc.tenants.run_history import Record, StateTracker
from flyatc.tenants.state import State, Status


def snapshot(spec: Spec, state: State, run: Run | None) -> Snapshot:
    """Build the facts that the idle sweep decides on. ``spec``: of the next run."""
    return Snapshot(
        tenant=spec.address,
        state=state,
        requests=run.requests.count if run is not None else 0,
        quiet_since=max(run.requests.quiet_since, run.commands.quiet_since) if run is not None else math.inf,
        idle=run.spec.app.idle if run is not None else 0.0,
        changed=run is not None and run.spec != spec,
        newcomer=run is not None and run.newcomer,
        seen=run.watch.seen if run is not None and run.watch is not None else UNSEEN,
        commands=run.commands.count if run is not None else 0,
    )


def status(
    spec: Spec, record: Record, tracker: StateTracker, run: Run | None, look: Snapshot, between: int, wall: float
) -> Status:
    """Build a Status. ``between``: requests that wait for the next run. ``wall``: Unix time now."""
    databases = run.databases if run is not None else None
    child = run.child if run is not None else None
    return Status(
        tenant=spec.address,
        user=spec.user,
        state=look.state,
        pid=child.pid if child is not None else None,
        port=child.port if child is not None else None,
        isolation=child.isolation if child is not None else None,
        queued=run.place if run is not None else None,
        requests=look.requests + between,
        commands=look.commands,
        since=stamp(tracker.since),
        idle_at=_stamp(wall + look.idle_at - asyncio.get_running_loop().time()),
        starts=record.starts,
        crashes=record.crashes,
        last_exit=record.last_exit,
        reason=record.failure.reason if record.failure is not None else record.unsaved,
        unsaved=databases.unsaved if databases is not None else record.unsaved is not None,
        saved_at=_stamp(databases.saved_at if databases is not None else record.saved_at),
        lag=None if databases is None else round(databases.lag, 1),
        size=None if databases is None else databases.size,
        alarms=[] if databases is None else databases.alarms,
        renewed={**record.renewed, **(databases.renewed if databases is not None else {})},
        overlooked=record.overlooked if run is None else run.overlooked,
        gauges={} if databases is None else databases.gauges,
        epoch=run.lease.epoch if run is not None and run.lease is not None else None,
        restart_pending=look.changed,
        busy="a command of flyatc exec" if look.commands else look.seen.reason,
    )


def _stamp(moment: float | None) -> str | None:
    return None if moment is None or moment == math.inf else stamp(moment)
