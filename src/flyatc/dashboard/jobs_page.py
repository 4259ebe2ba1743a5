"""The pages of jobs: all, and one with its progress."""

from aiohttp import web

from flyatc.dashboard import pages
from flyatc.dashboard.jobs import Job
from flyatc.dashboard.live import live
from flyatc.dashboard.site import Site

GONE = "There is no such job here: a machine keeps its last ones until the daemon is restarted."


def routes(site: Site) -> list[web.RouteDef]:
    def found(request: web.Request) -> Job:
        job = site.jobs.get(request.match_info["id"])
        if job is None:
            raise web.HTTPNotFound(text=GONE)
        return job

    async def every(request: web.Request) -> web.Response:
        return pages.render(request, "jobs.html", all_jobs=site.jobs.all)

    async def one(request: web.Request) -> web.Response:
        return pages.render(request, "job.html", job=found(request))

    async def follow(request: web.Request) -> web.StreamResponse:
        job = found(request)
        return await live(request, lambda: {"job": pages.text(request, "job_state.html", job=job)})

    return [web.get("jobs", every), web.get("jobs/{id}", one), web.get("jobs/{id}/live", follow)]
