"""Gives the dashboard, and those of other machines, what they show of the daemon's parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from flyatc.admin import machines_view
from flyatc.config.schema import Config
from flyatc.control.types import MachineStatus, Operations, Overview
from flyatc.daemon.wiring import Parts

if TYPE_CHECKING:
    from flyatc.dashboard.machines import Peers
    from flyatc.dashboard.site import Site

MEMINFO = Path("/proc/meminfo")
KEPT = 0.9  # s


def connect(parts: Parts, operations: Operations, config: Callable[[], Config]) -> None:
    """Give the dashboard its Site, and the other machines the status of this one. ``config``: returns the present
    configuration."""
    kept = KeptStatus(operations, partial(status, parts))
    parts.dashboard.make = lambda: _make(parts, operations, config, kept)
    parts.status = lambda: msgspec.json.encode(kept.of_machine())


class KeptStatus:
    """The status of this machine, kept for KEPT seconds: it looks at many tenants, and any number of machines and pages
    may ask for it. ``report``: makes what other machines get of it."""

    def __init__(self, operations: Operations, report: Callable[[Overview], MachineStatus]) -> None:
        self._operations, self._report = operations, report
        self._overview: Overview | None = None
        self._of_machine: MachineStatus | None = None  # made of it
        self._at = 0.0

    def overview(self, fresh: bool) -> Overview:
        """Return the status of the tenants that were asked for. ``fresh``: as it is now."""
        if fresh or self._overview is None or monotonic() - self._at > KEPT:
            self._overview, self._of_machine, self._at = self._operations.status(seen=True), None, monotonic()
        return self._overview

    def of_machine(self) -> MachineStatus:
        found = self.overview(fresh=False)
        if self._of_machine is None:
            self._of_machine = self._report(found)
        return self._of_machine


def _make(parts: Parts, operations: Operations, config: Callable[[], Config], kept: KeptStatus) -> "Site":
    """Import the dashboard's modules and make the Site. For a thread."""
    from flyatc.dashboard.machines import Machines
    from flyatc.dashboard.site import Site

    site = Site(
        operations,
        config,
        parts.log,
        environ=parts.environ,
        machine=parts.machine,
        placement=parts.user_placement,
    )
    site.replays, site.store, site.records = parts.replays, parts.store, parts.records
    site.overview = kept.overview
    site.machines = Machines(config, kept.of_machine, parts.store, parts.environ, _peers(parts, config()))
    return site


def _peers(parts: Parts, config: Config) -> "Peers | str | None":
    from flyatc.dashboard.machines import Peers

    if parts.machine is None or parts.private is None or parts.dns is None:
        return None
    if isinstance(parts.private.forwards, str):
        return parts.private.forwards
    return Peers(parts.machine, parts.private.forwards.signer, config.fly.private, parts.dns, parts.api, parts.environ)


def status(parts: Parts, found: Overview) -> MachineStatus:
    """The status of this machine."""
    held = parts.leases.keeper.held() if parts.leases.keeper is not None else None
    users = sorted({one.user for one in found.tenants if one.pid is not None}) if held is None else held
    try:
        meminfo = MEMINFO.read_text()
    except OSError:
        meminfo = ""
    region = parts.machine.region if parts.machine is not None else ""
    return machines_view.report(parts.leases.machine, region, found, users, meminfo)
