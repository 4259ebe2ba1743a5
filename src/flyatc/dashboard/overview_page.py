"""The first page: what needs attention, the machines, what runs. ``problems`` decides, and is pure."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec import structs

from flyatc.admin import machines_view, store_access
from flyatc.admin.store_access import Orphan
from flyatc.control.types import Overview
from flyatc.dashboard import pages
from flyatc.dashboard.cost_page import COSTS
from flyatc.dashboard.live import live
from flyatc.dashboard.machines import Found
from flyatc.dashboard.site import Site
from flyatc.kit.async_cache import AsyncCache
from flyatc.process import measure_work
from flyatc.tenants.state import INACTIVE_STATES, State, Status

SHOWN = 50  # tenants, and problems
ORPHANS_KEPT = 60.0  # s; finding them reads a folder of each tenant
SCARCE = 0.1  # share of the disk that is free, below which it is a problem


@dataclass(frozen=True)
class Problem:
    """Something that needs attention. ``kind``: one word or two; ``tenant``: an address; ``page``: of the dashboard."""

    kind: str
    text: str
    tenant: str | None = None
    page: str = ""
    bad: bool = True  # False: it can wait


def problems(found: Overview) -> Iterator[Problem]:
    """Yield the problems of a machine, the worst first."""
    if found.daemon.store is not None:
        yield Problem(
            "store away", f"The store cannot be used, and no tenant can start: {found.daemon.store}", page="store"
        )
    for bad in found.verified.bad if found.verified is not None else ():
        text = f"{bad.database}: {bad.why}"
        yield Problem(
            "damaged copy" if bad.state == "damaged" else "not tested", text, bad.tenant, bad=bad.state == "damaged"
        )
    for one in found.tenants:
        yield from _of_tenant(one)
    for sentence in found.daemon.not_separated:
        yield Problem("not separated", f"An app of a tenant {sentence}", bad=False)


def _of_tenant(one: Status) -> Iterator[Problem]:
    if one.state == State.FAILED:
        yield Problem("failed", one.reason or "its last start failed", one.tenant)
    if one.unsaved and one.state in INACTIVE_STATES:
        yield Problem("unsaved", one.reason or "the local copy has changes that the store lacks", one.tenant)
    for alarm in one.alarms:
        yield Problem("alarm", alarm, one.tenant)
    for sentence in one.overlooked:
        yield Problem("not saved", sentence, one.tenant)


def room(data: Path) -> Iterator[Problem]:
    """Yield a problem if the disk of the data folder is nearly full."""
    try:
        disk = shutil.disk_usage(data)
    except OSError:
        return
    if disk.free < SCARCE * disk.total:
        yield Problem(
            "no room", f"{pages.size(disk.free)} of {pages.size(disk.total)} are free below {data}", page="store"
        )


def of_machines(found: Found) -> Iterator[Problem]:
    """Yield the problems that other machines report or are."""
    for one in found.machines:
        if one.state in (machines_view.SILENT, machines_view.GONE):
            yield Problem(f"machine {one.state}", f"{one.machine} in {one.region or 'an unknown region'}: {one.note}")
        elif one.status is not None and not one.here:
            seen = one.status
            own = structs.replace(seen.daemon, store=None, not_separated=[])  # this machine says so already
            yield from problems(Overview(tenants=seen.tenants, daemon=own, verified=seen.verified))
    for owner in found.dirty:
        yield Problem("unsaved", f"{owner.user} on machine {owner.machine}: {owner.note}", page="users")


def of_orphans(orphans: list[Orphan] | None) -> Iterator[Problem]:
    """Yield a problem if copies were set aside on this machine."""
    if orphans:
        count = "one local copy was" if len(orphans) == 1 else f"{len(orphans)} local copies were"
        text = f"{count} replaced by another version, and set aside on this machine"
        yield Problem("orphans", text, page="store", bad=False)


def memory() -> int:
    """Return the bytes that the daemon uses; 0: unknown."""
    try:
        return measure_work.resident_of_this_process()
    except (OSError, ValueError, IndexError):
        return 0


class Facts:
    """The values of the page's parts."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._orphans: AsyncCache[str, list[Orphan]] = AsyncCache(self._look_for_orphans, lambda _: ORPHANS_KEPT, 1)

    async def _look_for_orphans(self, _: str) -> list[Orphan]:
        try:
            return await store_access.orphans_in(self._site.config(), None, None)
        except OSError:  # the disk has other problems
            return []

    async def now(self, *, fresh: bool) -> dict[str, Any]:
        """``fresh``: not of a moment ago."""
        site, config = self._site, self._site.config()
        site.overview(fresh)  # which ``look`` uses too
        machines = await site.machines.look() if site.machines is not None else Found([])
        orphans = await self._orphans.get("")
        found = site.overview(False)
        every = [*problems(found), *of_machines(machines), *room(Path(config.server.data)), *of_orphans(orphans)]
        others = [one.status for one in machines.machines if one.status is not None and not one.here]
        tenants = [*found.tenants, *(one for status in others for one in status.tenants)]
        active = [one for one in tenants if one.state not in INACTIVE_STATES]
        users = {one.user for one in config.tenants.values()} | {one.user for one in tenants}
        return {
            "found": found,
            "problems": sorted(every, key=lambda one: not one.bad)[:SHOWN],
            "more_problems": max(0, len(every) - SHOWN),
            "active": sorted(active, key=lambda one: (-one.requests, one.tenant))[:SHOWN],
            "more_active": max(0, len(active) - SHOWN),
            "machines": machines,
            "users": len(users.union(*(one.users for one in machines.machines))),
            "tenants": len({*config.tenants, *(one.tenant for one in tenants)}),
            "running": found.daemon.running + sum(one.daemon.running for one in others),
            "in_flight": sum(one.requests for one in tenants),
            "memory": memory(),
            "served": sum(site.operations.counters.requests.values()),
        }


PARTS = {"problems": "overview_problems.html", "totals": "overview_totals.html", "machine": "overview_machine.html",
         "machines": "overview_machines.html", "active": "overview_active.html"}  # fmt: skip


def routes(site: Site) -> list[web.RouteDef]:
    facts = Facts(site)

    async def page(request: web.Request) -> web.Response:
        return pages.render(request, "overview.html", **await facts.now(fresh=True), cost=request.app[COSTS].last())

    async def follow(request: web.Request) -> web.StreamResponse:
        async def parts() -> dict[str, str]:
            values = await facts.now(fresh=False) | {"cost": request.app[COSTS].last()}
            return {name: pages.text(request, template, **values) for name, template in PARTS.items()}

        return await live(request, parts)

    return [web.get("", page), web.get("overview/live", follow)]
