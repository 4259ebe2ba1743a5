"""The first page: what needs attention, this machine, what runs. ``problems`` decides, and is pure."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from flyatc.control.types import Overview
from flyatc.dashboard import pages
from flyatc.dashboard.live import live
from flyatc.dashboard.site import Site
from flyatc.tenants.state import INACTIVE_STATES, State, Status

SHOWN = 50  # tenants, and problems
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


def memory() -> dict[str, int]:
    """Return in bytes the memory of this machine, what is available of it, and what the daemon uses; 0: unknown."""
    found = dict.fromkeys(("total", "available", "daemon"), 0)
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found["total"] = int(lines["MemTotal"].split()[0]) * 1024
        found["available"] = int(lines["MemAvailable"].split()[0]) * 1024
        found["daemon"] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, KeyError, ValueError, IndexError):
        pass
    return found


def facts(site: Site) -> dict[str, Any]:
    """Return the values of the page's parts."""
    found = site.operations.status()
    every = [*problems(found), *room(Path(site.config().server.data))]
    active = [one for one in found.tenants if one.state not in INACTIVE_STATES]
    return {
        "found": found,
        "problems": every[:SHOWN],
        "more_problems": max(0, len(every) - SHOWN),
        "active": sorted(active, key=lambda one: (-one.requests, one.tenant))[:SHOWN],
        "more_active": max(0, len(active) - SHOWN),
        "users": len({one.user for one in found.tenants}),
        "in_flight": sum(one.requests for one in found.tenants),
        "memory": memory(),
        "served": sum(site.operations.counters.requests.values()),
    }


PARTS = {"problems": "overview_problems.html", "totals": "overview_totals.html", "machine": "overview_machine.html",
         "active": "overview_active.html"}  # fmt: skip


def routes(site: Site) -> list[web.RouteDef]:
    async def page(request: web.Request) -> web.Response:
        return pages.render(request, "overview.html", **facts(site))

    async def follow(request: web.Request) -> web.StreamResponse:
        def parts() -> dict[str, str]:
            values = facts(site)
            return {name: pages.text(request, template, **values) for name, template in PARTS.items()}

        return await live(request, parts)

    return [web.get("", page), web.get("overview/live", follow)]
