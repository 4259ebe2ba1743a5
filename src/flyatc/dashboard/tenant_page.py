"""A tenant: its state and why, its last day, what is saved; start, stop, restart, save."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Any

from aiohttp import web

from flyatc.control.types import TenantDetails
from flyatc.dashboard import pages, plots
from flyatc.dashboard.live import live
from flyatc.dashboard.plots import Picture
from flyatc.dashboard.site import Site, elsewhere
from flyatc.kit import tasks
from flyatc.kit.types import Progress
from flyatc.tenants.errors import NoSuchTenant
from flyatc.tenants.state import INACTIVE_STATES, State, Status

DRAWN_SECONDS = 15.0  # for which the pictures of an open page stay
LOOK_SECONDS = 0.2  # between two looks at the state, while something is done
WHY = {
    State.STOPPED: "It does not run. The next request starts it.",
    State.OWNING: "It waits for a place among limits.running, and for the lease.",
    State.RESTORING: "Its databases are made current.",
    State.EXECUTING: "A command of flyatc exec runs, without the app.",
    State.PREPARING: "The commands of app.before_start run.",
    State.STARTING: "The app is started and does not respond yet.",
    State.DRAINING: "Requests in flight may finish; new ones wait for the next run.",
    State.SAVING: "The app is ended, and its databases are saved.",
    State.FAILED: "The last run failed. Requests are refused for a while.",
}


def why(found: Status) -> str:
    """Return why it is in its state, and what comes next."""
    if found.state is State.QUEUED:
        return f"It waits for its turn among limits.starting: place {found.queued or '?'}."
    if found.state is not State.READY:
        return WHY[found.state]
    if found.requests or found.commands:
        return "It serves requests."
    if found.busy is not None:
        return f"It keeps running without requests: {found.busy}."
    if found.idle_at is not None:
        return f"It is idle, and is stopped at {found.idle_at[11:19]} UTC unless a request comes."
    return "It is idle."


def ago(stamp: str | None, now: float) -> str:
    """Return how long ago an RFC 3339 stamp was, roughly: it is shown again and again."""
    if stamp is None:
        return "never"
    seconds = now - datetime.fromisoformat(stamp).timestamp()
    return "just now" if seconds < 10 else f"{_roughly(seconds)} ago"


def lasting(stamp: str, now: float) -> str:
    """Return for how long something has lasted, roughly."""
    return f"for {_roughly(now - datetime.fromisoformat(stamp).timestamp())}"


def _roughly(seconds: float) -> str:
    for least, step in ((60, 10), (3600, 60)):
        if seconds < least:
            return pages.duration(max(step, seconds // step * step))
    return pages.duration(seconds)


class Pictures:
    """The pictures of one open page. They are drawn again now and then: of a busy tenant each response is a change."""

    def __init__(self) -> None:
        self._at = -math.inf
        self._drawn: list[Picture] = []

    def draw(self, details: TenantDetails, now: float) -> list[Picture]:
        if not 0 <= now - self._at < DRAWN_SECONDS:  # the clock may go back
            self._at, self._drawn = now, plots.pictures(details.activity, now)
        return self._drawn


PARTS = {"state": "tenant_state.html", "actions": "tenant_actions.html", "now": "tenant_now.html",
         "day": "tenant_day.html", "saved": "tenant_saved.html"}  # fmt: skip


@dataclass(frozen=True)
class Action:
    """Something that a button does to the tenant. ``risky``: it ends requests in flight."""

    name: str  # "stop": also the address
    does: str  # "Stop"
    done: str  # "stopped"
    risky: bool
    work: Callable[[str, Progress], Coroutine[Any, Any, None]]


class TenantPage:
    def __init__(self, site: Site) -> None:
        self._site = site
        operations = site.operations
        self.actions = (
            Action("start", "Start", "started", False, lambda address, _: operations.start(address)),
            Action("stop", "Stop", "stopped", True, lambda address, _: operations.stop(address)),
            Action("restart", "Restart", "restarted", True, lambda address, _: operations.restart(address)),
            Action("save", "Save", "saved", False, lambda address, step: operations.backup(address, None, step)),
        )

    async def page(self, request: web.Request) -> web.StreamResponse:
        address = request.query.get("address", "")
        if (away := await elsewhere(self._site, request, address)) is not None:
            return away
        return pages.render(request, "tenant.html", **self._facts(address, Pictures()))

    async def follow(self, request: web.Request) -> web.StreamResponse:
        address, pictures = request.query.get("address", ""), Pictures()
        if (away := await elsewhere(self._site, request, address)) is not None:
            return away

        def parts() -> dict[str, str]:
            facts = self._facts(address, pictures)
            return {name: pages.text(request, template, **facts) for name, template in PARTS.items()}

        return await live(request, parts)

    def _facts(self, address: str, pictures: Pictures) -> dict[str, Any]:
        """Return the values of the page's parts. Raises NoSuchTenant."""
        details, now = self._site.operations.tenant(address), time()
        found = details.status
        return {
            "details": details,
            "found": found,
            "page": "tenant",
            "own_host": self._site.settings.host is not None,
            "runs": found.state not in INACTIVE_STATES,
            "why": why(found),
            "lasting": lasting(found.since, now),
            "saved_at": ago(found.saved_at, now),
            "pictures": pictures.draw(details, now),
            "saves": self._site.config().storage.mode != "none",
        }

    def act(self, action: Action) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
        """Return the handler of a form: a job, after a question where requests may be lost."""

        async def handler(request: web.Request) -> web.StreamResponse:
            site, address = self._site, (await pages.form(request)).get("address", "")
            if (away := await elsewhere(site, request, address)) is not None:
                return away
            details, back = site.operations.tenant(address), site.url("tenant", address=address)
            if action.risky and details.status.requests:
                asked = await pages.confirm(
                    request,
                    title=f"{action.does} {address}",
                    text=f"{_count(details)} in flight. Requests may finish within app.drain_timeout; what takes "
                    "longer, and every WebSocket, is cut.",
                    button=f"{action.does} it now",
                    back=back,
                )
                if asked is not None:
                    return asked

            async def work(progress: Progress) -> str:
                async with self._steps(address, progress):
                    await action.work(address, progress)
                return f"{address} is {action.done}."

            job = site.jobs.start(f"{action.does} {address}", back, work)
            site.audit(request, f"tenant to be {action.done}", tenant=address)
            return pages.redirect(request, site.url(f"jobs/{job.id}"))

        return handler

    @contextlib.asynccontextmanager
    async def _steps(self, address: str, progress: Progress) -> AsyncIterator[None]:
        """Report the states that the tenant passes."""

        async def watch() -> None:
            last = None
            with contextlib.suppress(NoSuchTenant):
                while True:
                    found = self._site.operations.tenant(address).status
                    if found.state != last:
                        progress(why(found), 0, 0)
                    last = found.state
                    await asyncio.sleep(LOOK_SECONDS)

        watching = tasks.start(watch(), f"states of {address}")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])


def _count(details: TenantDetails) -> str:
    requests, tunnels = details.status.requests - details.tunnels, details.tunnels
    found = [f"{number} {name}{'' if number == 1 else 's'}"
             for number, name in ((requests, "request"), (tunnels, "WebSocket")) if number > 0]  # fmt: skip
    return f"{' and '.join(found) or 'No request'} {'is' if requests + tunnels == 1 else 'are'}"


def routes(site: Site) -> list[web.RouteDef]:
    page = TenantPage(site)
    return [
        web.get("tenant", page.page),
        web.get("tenant/live", page.follow),
        *(web.post(f"tenant/{action.name}", page.act(action)) for action in page.actions),
    ]
