"""The pages of jobs: all, and one with its progress."""

from aiohttp import web

from flyatc.dashboard import pages
from flyatc.dashboard.jobs import Job, machine_of
from flyatc.dashboard.live import live
from flyatc.dashboard.site import Site, to_machine

GONE = "There is no such job here: a machine keeps its last ones until the daemon is restarted."
QUICK = 0.7  # s; most work ends within: then its page shows the result at once


def routes(site: Site) -> list[web.RouteDef]:
    def found(request: web.Request) -> Job:
        job = site.jobs.get(request.match_info["id"])
        if job is None:
            raise web.HTTPNotFound(text=GONE)
        return job

    async def every(request: web.Request) -> web.Response:
        return pages.render(request, "jobs.html", all_jobs=site.jobs.all)

    def there(request: web.Request) -> web.Response | None:
        return to_machine(site, request, machine_of(request.match_info["id"]))

    async def one(request: web.Request) -> web.Response:
        if (elsewhere := there(request)) is not None:
            return elsewhere
        job = found(request)
        await site.jobs.settle(job, QUICK)
        return pages.render(request, "job.html", job=job)

    async def follow(request: web.Request) -> web.StreamResponse:
        if (elsewhere := there(request)) is not None:
            return elsewhere
        job = found(request)
        return await live(request, lambda: {"job": pages.text(request, "job_state.html", job=job)})

    return [web.get("jobs", every), web.get("jobs/{id}", one), web.get("jobs/{id}/live", follow)]
